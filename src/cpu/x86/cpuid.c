/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPU model sublet-v1 (SDM volume 2, CPUID; hypervisor leaves as in the
 * Linux documentation, "KVM CPUID bits").
 *
 * Family 6, model 0x8f: recent enough that no kernel works around an erratum
 * of its, and with all *_NO bits of IA32_ARCH_CAPABILITIES and enhanced IBRS
 * no kernel pays for a mitigation of somebody else's.
 */
#include "cpu/x86/cpuid.h"

#include <cpuid.h>
#include <string.h>

#define MODEL_EAX 0x000806f8u
#define APIC_HZ   1000000000ull
#define MAX_LEAF  0x1fu

/* What the model asks of the host in one register of one leaf. */
struct cpuid_want {
	u32 leaf, subleaf;
	struct cpuid_regs r;
};

#define B(n) (1u << (n))

enum { WANT_1, WANT_7, WANT_72, WANT_D1, WANT_EXT1, WANT_EXT7 };

/* clang-format off */
static const struct cpuid_want cpuid_wants[] = {
	/* SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 X2APIC MOVBE
	 * POPCNT TSC-DEADLINE AES XSAVE AVX F16C RDRAND */
	[WANT_1] = { 1, 0, {
		.ecx = B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) |
		       B(20) | B(21) | B(22) | B(23) | B(24) | B(25) | B(26) |
		       B(28) | B(29) | B(30),
		/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV
		 * PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS */
		.edx = B(0) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) |
		       B(9) | B(11) | B(12) | B(13) | B(14) | B(15) | B(16) |
		       B(17) | B(19) | B(23) | B(24) | B(25) | B(26) | B(27),
	} },
	/* FSGSBASE TSC_ADJUST BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID
	 * ZERO_FCS_FDS RDSEED ADX SMAP CLFLUSHOPT CLWB SHA; UMIP RDPID; FSRM
	 * SPEC_CTRL STIBP ARCH_CAPABILITIES SSBD */
	[WANT_7] = { 7, 0, {
		.ebx = B(0) | B(1) | B(3) | B(5) | B(6) | B(7) | B(8) | B(9) |
		       B(10) | B(13) | B(18) | B(19) | B(20) | B(23) | B(24) | B(29),
		.ecx = B(2) | B(22),
		.edx = B(4) | B(26) | B(27) | B(29) | B(31),
	} },
	/* BHI_CTRL: kernels that trust no BHI_NO bit set BHI_DIS_S once
	 * instead of clearing branch history in each system call */
	[WANT_72] = { 7, 2, { .edx = B(4) } },
	/* XSAVEOPT XSAVEC XGETBV1 XSAVES */
	[WANT_D1] = { 0xd, 1, { .eax = B(0) | B(1) | B(2) | B(3) } },
	/* LAHF LZCNT PREFETCHW; SYSCALL NX PDPE1GB RDTSCP LM */
	[WANT_EXT1] = { 0x80000001, 0, {
		.ecx = B(0) | B(5) | B(8),
		.edx = B(11) | B(20) | B(26) | B(27) | B(29),
	} },
	[WANT_EXT7] = { 0x80000007, 0, { .edx = B(8) } },
};
/* clang-format on */

/*
 * RDCL_NO IBRS_ALL SKIP_L1DFL_VMENTRY SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO
 * SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO
 */
#define MODEL_ARCH_CAPABILITIES                                            \
	(BIT64(0) | BIT64(1) | BIT64(3) | BIT64(4) | BIT64(5) | BIT64(6) | \
	 BIT64(8) | BIT64(13) | BIT64(14) | BIT64(15) | BIT64(20) |        \
	 BIT64(24) | BIT64(26) | BIT64(27) | BIT64(62))

struct cpuid_regs cpuid_host(void *unused, u32 leaf, u32 subleaf)
{
	struct cpuid_regs r;

	(void)unused;
	__cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
	return r;
}

static void cpuid_add(struct cpuid_model *m, u32 leaf, u32 subleaf, bool sub,
		      struct cpuid_regs r)
{
	ASSERT(m->n < CPUID_LEAVES);
	m->leaf[m->n++] = (struct cpuid_leaf){
		.leaf = leaf,
		.subleaf = subleaf,
		.has_subleaf = sub,
		.r = r,
	};
}

static void cpuid_one(struct cpuid_model *m, u32 leaf, u32 eax, u32 ebx,
		      u32 ecx, u32 edx)
{
	cpuid_add(m, leaf, 0, false, (struct cpuid_regs){eax, ebx, ecx, edx});
}

/* The wanted bits that the host has. */
static struct cpuid_regs cpuid_have(const struct cpuid_want *w,
				    struct cpuid_regs (*host)(void *, u32, u32),
				    void *arg)
{
	struct cpuid_regs h = host(arg, w->leaf, w->subleaf);

	h.eax &= w->r.eax;
	h.ebx &= w->r.ebx;
	h.ecx &= w->r.ecx;
	h.edx &= w->r.edx;
	return h;
}

/* A feature without what it stands on is none. */
static void cpuid_fix(struct cpuid_regs *f)
{
	struct cpuid_regs *one = &f[WANT_1], *seven = &f[WANT_7];

	if (!(one->ecx & B(26))) { /* XSAVE */
		one->ecx &= ~(B(28) | B(12) | B(29));
		f[WANT_D1].eax = 0;
	}
	if (!(one->ecx & B(28))) { /* AVX */
		one->ecx &= ~(B(12) | B(29));
		seven->ebx &= ~B(5);
	}
	if (!(one->ecx & B(17)))
		seven->ebx &= ~B(10);
}

static unsigned cpuid_log2_up(unsigned n)
{
	unsigned bits = 0;

	while (BIT(bits) < n)
		bits++;
	return bits;
}

/* Leaf 4: type, level, line of 64 bytes, ways, sets; shared by cpus. */
static void cpuid_cache(struct cpuid_model *m, u32 subleaf, u32 type, u32 level,
			u32 ways, u32 sets, u32 sharing, u32 cores)
{
	struct cpuid_regs r = {
		.eax = type | level << 5 | B(8) | (sharing - 1) << 14 |
		       (cores - 1) << 26,
		.ebx = 63 | (ways - 1) << 22,
		.ecx = sets - 1,
	};

	cpuid_add(m, 4, subleaf, true, r);
}

static void cpuid_caches(struct cpuid_model *m, unsigned cpus)
{
	u32 all = BIT(cpuid_log2_up(cpus));
	u32 cores = MIN(all, 64u);

	cpuid_cache(m, 0, 1, 1, 12, 64, 1, cores);      /* 48 KiB data */
	cpuid_cache(m, 1, 2, 1, 8, 64, 1, cores);       /* 32 KiB code */
	cpuid_cache(m, 2, 3, 2, 16, 2048, 1, cores);    /* 2 MiB */
	cpuid_cache(m, 3, 3, 3, 16, 32768, all, cores); /* 32 MiB */
	cpuid_add(m, 4, 4, true, (struct cpuid_regs){0});
}

/* One thread a core, one package. */
static void cpuid_topology(struct cpuid_model *m, u32 leaf, unsigned cpus)
{
	u32 bits = cpuid_log2_up(cpus);

	cpuid_add(m, leaf, 0, true, (struct cpuid_regs){0, 1, 1 << 8, 0});
	cpuid_add(m, leaf, 1, true,
		  (struct cpuid_regs){bits, cpus, 2 << 8 | 1, 0});
	cpuid_add(m, leaf, 2, true, (struct cpuid_regs){0, 0, 2, 0});
}

/*
 * Leaf 0x15: tsc_hz = APIC_HZ * num / den, as near as num below 4295 allows:
 * kernels multiply in 32 bits (continued fraction).
 */
static void cpuid_tsc(struct cpuid_model *m, u64 tsc_hz)
{
	u64 a = tsc_hz, b = APIC_HZ;
	u64 n0 = 0, n1 = 1, d0 = 1, d1 = 0;

	while (b) {
		u64 q = a / b, t = a % b;
		u64 n2 = q * n1 + n0, d2 = q * d1 + d0;

		if (n2 > 4294 || d2 > 4294)
			break;
		n0 = n1;
		n1 = n2;
		d0 = d1;
		d1 = d2;
		a = b;
		b = t;
	}
	cpuid_one(m, 0x15, (u32)d1, (u32)n1, (u32)APIC_HZ, 0);
	cpuid_one(m, 0x16, (u32)(tsc_hz / 1000000), (u32)(tsc_hz / 1000000),
		  100, 0);
}

static void cpuid_xsave(struct cpuid_model *m, const struct cpuid_regs *f)
{
	bool avx = f[WANT_1].ecx & B(28);
	struct cpuid_regs r = {
		.eax = avx ? 7 : 3,
		.ebx = avx ? 832 : 576,
		.ecx = avx ? 832 : 576,
	};

	if (!(f[WANT_1].ecx & B(26)))
		return;
	m->xcr0_mask = r.eax;
	cpuid_add(m, 0xd, 0, true, r);
	r = f[WANT_D1];
	if (r.eax & (B(1) | B(3)))
		r.ebx = avx ? 832 : 576;
	cpuid_add(m, 0xd, 1, true, r);
	if (avx)
		cpuid_add(m, 0xd, 2, true, (struct cpuid_regs){256, 576, 0, 0});
}

static void cpuid_string(struct cpuid_model *m, u32 leaf, const char *text)
{
	u32 w[12] = {0};

	strncpy((char *)w, text, sizeof(w) - 1);
	for (unsigned i = 0; i < 3; i++)
		cpuid_one(m, leaf + i, w[4 * i], w[4 * i + 1], w[4 * i + 2],
			  w[4 * i + 3]);
}

static void cpuid_basic(struct cpuid_model *m, const struct cpuid_regs *f,
			unsigned cpus, u64 tsc_hz)
{
	struct cpuid_regs one = f[WANT_1], seven = f[WANT_7];

	cpuid_one(m, 0, MAX_LEAF, 0x756e6547, 0x6c65746e, 0x49656e69);
	one.eax = MODEL_EAX;
	one.ebx = 8 << 8 | MIN(cpus, 255u) << 16;
	one.ecx |= B(31);
	if (cpus > 1)
		one.edx |= B(28);
	cpuid_add(m, 1, 0, false, one);
	cpuid_one(m, 2, 0x00feff01, 0xf0, 0, 0);
	cpuid_caches(m, cpus);
	cpuid_one(m, 6, B(2), 0, 0, 0); /* ARAT */
	seven.eax = f[WANT_72].edx ? 2 : 0;
	cpuid_add(m, 7, 0, true, seven);
	cpuid_add(m, 7, 2, true, f[WANT_72]);
	cpuid_topology(m, 0xb, cpus);
	cpuid_xsave(m, f);
	cpuid_tsc(m, tsc_hz);
	cpuid_topology(m, 0x1f, cpus);
}

static void cpuid_hypervisor(struct cpuid_model *m, u64 tsc_hz, u32 features)
{
	u32 sig[3];

	memcpy(sig, "KVMKVMKVM\0\0\0", 12);
	cpuid_one(m, 0x40000000, 0x40000010, sig[0], sig[1], sig[2]);
	cpuid_one(m, 0x40000001, features, 0, 0, 0);
	cpuid_one(m, 0x40000010, (u32)(tsc_hz / 1000), (u32)(APIC_HZ / 1000), 0,
		  0);
}

static void cpuid_extended(struct cpuid_model *m, const struct cpuid_regs *f,
			   u32 host_bits)
{
	u32 bits = host_bits & 0xff;

	if (bits < 36 || bits > 46)
		bits = bits < 36 ? 36 : 46;
	cpuid_one(m, 0x80000000, 0x80000008, 0, 0, 0);
	cpuid_add(m, 0x80000001, 0, false, f[WANT_EXT1]);
	cpuid_string(m, 0x80000002, "Sublet v1 virtual CPU");
	cpuid_one(m, 0x80000006, 0, 0, 2048u << 16 | 8 << 12 | 64, 0);
	cpuid_add(m, 0x80000007, 0, false, f[WANT_EXT7]);
	cpuid_one(m, 0x80000008, bits | 48 << 8, 0, 0, 0);
}

void cpuid_model_build(struct cpuid_model *m,
		       struct cpuid_regs (*host)(void *arg, u32 leaf,
						 u32 subleaf),
		       void *arg, unsigned cpus, u64 tsc_hz, u32 pv_features)
{
	struct cpuid_regs f[ARRAY_LEN(cpuid_wants)];

	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < ARRAY_LEN(cpuid_wants); i++)
		f[i] = cpuid_have(&cpuid_wants[i], host, arg);
	cpuid_fix(f);
	m->xcr0_mask = 1;
	m->pv_features = pv_features;
	if (f[WANT_7].edx & B(29))
		m->arch_capabilities = MODEL_ARCH_CAPABILITIES;
	if (!(f[WANT_7].edx & B(26)))
		m->arch_capabilities &= ~(u64)B(1); /* IBRS_ALL */
	cpuid_basic(m, f, cpus, tsc_hz);
	cpuid_hypervisor(m, tsc_hz, pv_features);
	cpuid_extended(m, f, host(arg, 0x80000008, 0).eax);
}

static struct cpuid_regs cpuid_both(void *arg, u32 leaf, u32 subleaf)
{
	const struct cpuid_model *const *m = arg;
	struct cpuid_regs a = cpuid_model_get(m[0], leaf, subleaf, 0);
	struct cpuid_regs b = cpuid_model_get(m[1], leaf, subleaf, 0);

	if (leaf == 0x80000008) { /* address bits, a number */
		a.eax = MIN(a.eax & 0xff, b.eax & 0xff);
		return a;
	}
	return (struct cpuid_regs){a.eax & b.eax, a.ebx & b.ebx, a.ecx & b.ecx,
				   a.edx & b.edx};
}

void cpuid_model_common(struct cpuid_model *m, const struct cpuid_model *a,
			const struct cpuid_model *b, unsigned cpus, u64 tsc_hz)
{
	const struct cpuid_model *both[] = {a, b};

	cpuid_model_build(m, cpuid_both, both, cpus, tsc_hz,
			  a->pv_features & b->pv_features);
}

static const struct cpuid_leaf *cpuid_find(const struct cpuid_model *m,
					   u32 leaf, u32 subleaf)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct cpuid_leaf *l = &m->leaf[i];

		if (l->leaf == leaf &&
		    (!l->has_subleaf || l->subleaf == subleaf))
			return l;
	}
	return NULL;
}

struct cpuid_regs cpuid_model_get(const struct cpuid_model *m, u32 leaf,
				  u32 subleaf, unsigned id)
{
	const struct cpuid_leaf *l = cpuid_find(m, leaf, subleaf);
	struct cpuid_regs r = {0};

	if (l)
		r = l->r;
	if (leaf == 1)
		r.ebx |= (id & 0xff) << 24;
	if (leaf == 0xb || leaf == 0x1f) {
		if (!l)
			r.ecx = subleaf & 0xff;
		r.edx = id;
	}
	return r;
}

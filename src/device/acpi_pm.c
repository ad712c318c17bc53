/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI fixed hardware, see acpi_pm.h. */
#include "device/acpi_pm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* PM1 status and enable */
enum {
	PM1_TMR = BIT(0),
	PM1_GBL = BIT(5),
	PM1_PWRBTN = BIT(8),
	PM1_SLPBTN = BIT(9),
	PM1_RTC = BIT(10),
	PM1_WAK = BIT(15),
};
#define PM1_STS_BITS \
	(PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_EN_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

/* PM1 control */
enum {
	CNT_SCI_EN = BIT(0),
	CNT_BM_RLD = BIT(1),
	CNT_SLP_TYP = 7 << 10,
	CNT_SLP_EN = BIT(13),
};

struct acpi_pm_regs {
	u64 age_ns; /* of the PM timer since it was 0, when saved */
	u64 half;   /* times its highest bit changed, as far as noticed */
	u16 pm1_sts, pm1_en, pm1_cnt;
	u16 gpe_sts, gpe_en;
	u8 pad[6]; /* zero */
};

struct acpi_pm {
	struct dev dev;
	struct acpi_pm_regs r;    /* dev.lock */
	u64 start_ns;             /* when the PM timer was 0; dev.lock */
	struct loop_timer *timer; /* owned; for TMR_STS if that is enabled */
	struct acpi_pm_config c;
};

static u64 acpi_pm_ticks(const struct acpi_pm *p)
{
	return mul_div(clock_ns() - p->start_ns, ACPI_PM_TMR_HZ, 1000000000);
}

/* TMR_STS is set whenever bit 31 of the timer changes (FADT: TMR_VAL_EXT). */
static void acpi_pm_sync(struct acpi_pm *p)
{
	u64 half = acpi_pm_ticks(p) >> 31;

	if (half != p->r.half)
		p->r.pm1_sts |= PM1_TMR;
	p->r.half = half;
}

static void acpi_pm_update(struct acpi_pm *p)
{
	u64 next;

	acpi_pm_sync(p);
	irq_set(&p->c.sci,
		(p->r.pm1_sts & p->r.pm1_en) || (p->r.gpe_sts & p->r.gpe_en));
	next = mul_div((p->r.half + 1) << 31, 1000000000, ACPI_PM_TMR_HZ);
	loop_timer_arm(p->timer,
		       p->r.pm1_en & PM1_TMR ? p->start_ns + next + 1 : 0);
}

static void acpi_pm_fired(void *arg)
{
	struct acpi_pm *p = arg;

	pthread_mutex_lock(&p->dev.lock);
	acpi_pm_update(p);
	pthread_mutex_unlock(&p->dev.lock);
}

void acpi_pm_power_button(struct acpi_pm *p)
{
	pthread_mutex_lock(&p->dev.lock);
	p->r.pm1_sts |= PM1_PWRBTN;
	acpi_pm_update(p);
	pthread_mutex_unlock(&p->dev.lock);
}

void acpi_pm_gpe(struct acpi_pm *p, unsigned gpe)
{
	ASSERT(gpe < 16);
	pthread_mutex_lock(&p->dev.lock);
	p->r.gpe_sts |= BIT(gpe);
	acpi_pm_update(p);
	pthread_mutex_unlock(&p->dev.lock);
}

/* ---- registers ---- */

/* The block as it reads, the bytes of a row at a time. */
static void acpi_pm_image(struct acpi_pm *p, u8 image[ACPI_PM_SIZE])
{
	u32 timer = (u32)acpi_pm_ticks(p);

	memset(image, 0, ACPI_PM_SIZE);
	memcpy(image + ACPI_PM1_EVT, &p->r.pm1_sts, 2);
	memcpy(image + ACPI_PM1_EVT + 2, &p->r.pm1_en, 2);
	memcpy(image + ACPI_PM1_CNT, &p->r.pm1_cnt, 2);
	memcpy(image + ACPI_PM_TMR, &timer, 4);
	memcpy(image + ACPI_GPE0, &p->r.gpe_sts, 2);
	memcpy(image + ACPI_GPE0 + 2, &p->r.gpe_en, 2);
}

static u64 acpi_pm_read(struct dev *d, u64 off, unsigned len)
{
	struct acpi_pm *p = (struct acpi_pm *)d;
	u8 image[ACPI_PM_SIZE];
	u64 val = 0;

	acpi_pm_sync(p);
	acpi_pm_image(p, image);
	memcpy(&val, image + off, len);
	return val;
}

/* S5 ends the VM; other sleeping states are not offered and do nothing. */
static void acpi_pm_write_cnt(struct acpi_pm *p, u16 val)
{
	p->r.pm1_cnt = (val & (CNT_BM_RLD | CNT_SLP_TYP)) | CNT_SCI_EN;
	if (val & CNT_SLP_EN && (val & CNT_SLP_TYP) >> 10 == ACPI_S5_SLP_TYP &&
	    p->c.power_off)
		p->c.power_off(p->c.arg);
}

static void acpi_pm_write_byte(struct acpi_pm *p, u64 off, u8 val)
{
	u16 at = (u16)(val << (off & 1 ? 8 : 0));
	u16 mask = off & 1 ? 0xff00 : 0x00ff;

	switch (off & ~1ull) {
	case ACPI_PM1_EVT: p->r.pm1_sts &= ~at; break;
	case ACPI_PM1_EVT + 2:
		p->r.pm1_en = (p->r.pm1_en & ~mask) | (at & PM1_EN_BITS);
		break;
	case ACPI_PM1_CNT:
		acpi_pm_write_cnt(p, (p->r.pm1_cnt & ~mask) | at);
		break;
	case ACPI_GPE0: p->r.gpe_sts &= ~at; break;
	case ACPI_GPE0 + 2: p->r.gpe_en = (p->r.gpe_en & ~mask) | at; break;
	default: break;
	}
}

static void acpi_pm_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct acpi_pm *p = (struct acpi_pm *)d;

	acpi_pm_sync(p);
	for (unsigned i = 0; i < len; i++)
		acpi_pm_write_byte(p, off + i, (u8)(val >> 8 * i));
	acpi_pm_update(p);
}

/* ---- life ---- */

static void acpi_pm_reset(struct dev *d)
{
	struct acpi_pm *p = (struct acpi_pm *)d;

	p->r = (struct acpi_pm_regs){.pm1_cnt = CNT_SCI_EN};
	p->start_ns = clock_ns();
	acpi_pm_update(p);
}

static void acpi_pm_saving(struct dev *d)
{
	struct acpi_pm *p = (struct acpi_pm *)d;

	acpi_pm_sync(p);
	p->r.age_ns = clock_ns() - p->start_ns;
}

static void acpi_pm_loaded(struct dev *d)
{
	struct acpi_pm *p = (struct acpi_pm *)d;

	p->start_ns = clock_ns() - p->r.age_ns;
	acpi_pm_update(p);
}

static void acpi_pm_free(struct dev *d)
{
	loop_timer_free(((struct acpi_pm *)d)->timer);
}

static const struct state_field acpi_pm_fields[] = {
	STATE(struct acpi_pm_regs, age_ns, 1),
	STATE(struct acpi_pm_regs, half, 1),
	STATE(struct acpi_pm_regs, pm1_sts, 1),
	STATE(struct acpi_pm_regs, pm1_en, 1),
	STATE(struct acpi_pm_regs, pm1_cnt, 1),
	STATE(struct acpi_pm_regs, gpe_sts, 1),
	STATE(struct acpi_pm_regs, gpe_en, 1),
	STATE_ARRAY(struct acpi_pm_regs, pad, 1),
};

static int acpi_pm_check(const void *regs, struct err *e)
{
	const struct acpi_pm_regs *r = regs;

	if (r->pm1_sts & ~PM1_STS_BITS || r->pm1_en & ~PM1_EN_BITS ||
	    !(r->pm1_cnt & CNT_SCI_EN) || r->age_ns > 1ull << 62)
		return err_set(e, -EDOM, "acpi_pm: reserved bits are set");
	return 0;
}

static const struct state_desc acpi_pm_state = {
	.name = "acpi_pm",
	.version = 1,
	.size = sizeof(struct acpi_pm_regs),
	.fields = acpi_pm_fields,
	.nfields = ARRAY_LEN(acpi_pm_fields),
	.check = acpi_pm_check,
};

static const struct dev_class acpi_pm_class = {
	.name = "acpi_pm",
	.state = &acpi_pm_state,
	.read = acpi_pm_read,
	.write = acpi_pm_write,
	.reset = acpi_pm_reset,
	.saving = acpi_pm_saving,
	.loaded = acpi_pm_loaded,
	.free = acpi_pm_free,
};

struct acpi_pm *acpi_pm_new(struct loop *l, const struct acpi_pm_config *c)
{
	struct acpi_pm *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->timer = loop_timer_new(l, acpi_pm_fired, p);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	dev_init(&p->dev, &acpi_pm_class, &p->r);
	p->c = *c;
	acpi_pm_reset(&p->dev);
	return p;
}

int acpi_pm_map(struct acpi_pm *p, struct io_space *ports, u64 base,
		struct err *e)
{
	return io_map(ports, base, ACPI_PM_SIZE, &dev_io_ops, p, "ACPI PM", e);
}

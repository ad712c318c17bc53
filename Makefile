# Sublet: make run | test | check | bench | install | clean
#
# SAN=1 builds with address and undefined-behaviour sanitizers in build-san/;
# SAN=undefined with that one, for the CPU test, which has no room beside the
# address sanitizer, in build-san-undefined/.
# Objects, generated tables and test programs all live under $(B).

PREFIX ?= /usr/local
CC ?= gcc
B := build$(if $(SAN),-san$(if $(filter-out 1,$(SAN)),-$(SAN)))
SANITIZE := -fsanitize=$(if $(filter-out 1,$(SAN)),$(SAN),address,undefined)
V ?= 0
Q := $(if $(filter 0,$(V)),@)

PKGS := slirp liburing
CFLAGS ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wundef -Wvla
HARDEN := -fPIE -fstack-protector-strong -fno-strict-aliasing
ifdef SAN
override CFLAGS := -O1 -g $(SANITIZE) -DINT_THREADED=0 \
	-fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS += $(SANITIZE)
else
HARDEN += -D_FORTIFY_SOURCE=2
endif
ALL_CFLAGS = -std=gnu17 $(CFLAGS) $(WARN) $(HARDEN) -pthread -MMD -MP \
	-Isrc -I$(B)/gen $(shell pkg-config --cflags $(PKGS) 2>/dev/null) \
	-DSUBLET_VERSION='"$(VERSION)"'
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS) -pthread
# Linked in, as each would take the dynamic linker longer and more memory than
# it saves. libslirp is loaded when a guest first uses its network.
LIBS := -Wl,-Bstatic -luring -llzma -lzstd -lz -llz4 -ljansson -Wl,-Bdynamic
VERSION := 0.1

DIFF := $(filter-out %_test.c,$(wildcard src/cpu/soft/diff_*.c))
SRCS := $(filter-out %_test.c %_fuzz.c src/cli/main.c $(DIFF),\
	$(wildcard src/*/*.c src/*/*/*.c))
OBJS := $(SRCS:src/%.c=$(B)/%.o)
TESTS := $(patsubst src/%.c,$(B)/%,$(wildcard src/*/*_test.c src/*/*/*_test.c))
FUZZERS := $(patsubst src/%.c,$(B)/%,$(wildcard src/*/*_fuzz.c src/*/*/*_fuzz.c))
SYSTEM_TESTS := $(filter-out test/migrate-engines.sh test/lib.sh,\
	$(wildcard test/*.sh))

.PHONY: all setup run test test-unit test-system test-long check bench \
	install clean guests
all: $(B)/sublet

$(B)/sublet: $(B)/cli/main.o $(B)/libsublet.a
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libsublet.a: $(OBJS)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/%.o: src/%.c Makefile | $(B)/gen/cpu/x86/opnames.def
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Hundreds of small functions from macros: to know where each of their variables
# lies takes a fifth of the time.
$(B)/cpu/soft/int_%.o: ALL_CFLAGS += -fno-var-tracking-assignments

# A program for guests, in the recipes.
$(B)/gen/reseed: images/reseed.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -Os $(WARN) -ffreestanding -nostdlib -static \
		-fno-pie -no-pie -fno-stack-protector -fcf-protection=none \
		-fno-asynchronous-unwind-tables -s -Wl,--build-id=none \
		-Wl,-z,noseparate-code -o $@ $<
$(B)/cli/recipes.o: ALL_CFLAGS += -Wa,-I$(B)/gen
$(B)/cli/recipes.o: $(wildcard images/*) $(B)/gen/reseed

# enum x86_op: each mnemonic of the opcode table once, in order of appearance
$(B)/gen/cpu/x86/opnames.def: tools/opnames $(wildcard src/cpu/x86/ops*.def)
	@mkdir -p $(@D)
	$(Q)tools/opnames $(filter %.def,$^) > $@.tmp && mv $@.tmp $@

$(B)/cpu/soft/diff_test: $(DIFF:src/%.c=$(B)/%.o)
$(B)/%_test: $(B)/%_test.o $(B)/libsublet.a
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(LIBS) -lcmocka $(if $(wildcard /usr/include/Zydis/Zydis.h),-lZydis)

# A fuzzer's target with a driver that needs no fuzzing engine (test/fuzz.sh).
$(B)/%_fuzz: $(B)/%_fuzz.o $(B)/fuzz.o $(B)/libsublet.a
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(B)/fuzz.o: test/fuzz.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Guest programs for the tests: test/guest/x.c with test/guest/lib
GUESTS := $(patsubst test/guest/%.c,$(B)/guest/%,$(wildcard test/guest/*.c))
GUEST_CFLAGS := -std=gnu17 -O1 -g -Wall -Wextra -Werror -ffreestanding -nostdlib \
	-fno-pie -no-pie -static -mno-red-zone -mgeneral-regs-only \
	-fno-stack-protector -fno-asynchronous-unwind-tables \
	-fcf-protection=none -Wl,--build-id=none -Wl,--no-warn-rwx-segments
guests: $(GUESTS)
$(B)/guest/%: test/guest/%.c $(wildcard test/guest/lib/*)
	@mkdir -p $(@D)
	@echo "  GUEST $@"
	$(Q)$(CC) $(GUEST_CFLAGS) -T test/guest/lib/guest.ld -o $@ $< \
		test/guest/lib/start.S test/guest/lib/guest.c

# What a fresh machine lacks; silent and quick where all is there.
setup:
	@tools/setup build
setup-test: setup
	@tools/setup test

run: setup
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@$(B)/sublet run tiny $(if $(shell test -t 0 && test -t 1 && echo y),,\
		-- 'uname -a; grep MemTotal /proc/meminfo')

test: setup-test
	@$(MAKE) --no-print-directory -j$$(nproc) all test-programs
	@DIFF_CASES=2100000 tools/run-tests $(TESTS) $(SYSTEM_TESTS)

test-unit: setup-test
	@$(MAKE) --no-print-directory -j$$(nproc) all test-programs
	@tools/run-tests $(TESTS)
ifeq ($(SAN),1)
	@$(MAKE) --no-print-directory -j$$(nproc) SAN=undefined \
		build-san-undefined/cpu/soft/diff_test
	@tools/run-tests build-san-undefined/cpu/soft/diff_test
endif

test-programs: $(TESTS) $(GUESTS) $(FUZZERS)

test-long: setup-test
	@$(MAKE) --no-print-directory -j$$(nproc) all test-programs
	@tools/test-long

check: setup-test
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tools/check

bench: setup-test
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@bench/run

install: all
	install -D -m 755 $(B)/sublet $(DESTDIR)$(PREFIX)/bin/sublet
	install -D -m 644 docs/sublet.1 \
		$(DESTDIR)$(PREFIX)/share/man/man1/sublet.1

clean:
	rm -rf build build-san build-san-*

-include $(OBJS:.o=.d) $(B)/cli/main.d $(TESTS:=.d) $(DIFF:src/%.c=$(B)/%.d)
.SECONDARY:

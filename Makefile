# SPDX-License-Identifier: MIT
# FlightLLM: driver, compiler, library, emulator and tools.
#
#   make             userspace into build/, and the module where kernel headers exist
#   make demo        set-up, then a model speaks from the emulated card in a VM
#   make check       set-up, then all tests
#   make check-fast  the tests that need neither root nor a VM, within a minute
#   make lint        both compilers, include arrows, sparse, checkpatch
#   make coverage    how much of the card's execution its tests run
#   make bench-compile  a 1B and a 7B model compiled and run, against the reference
#   make fuzz        10,000 random programs, then every fuzzer for FUZZ_SECONDS each (default 600)
#   make soak        50 kills of client, VM and emulator each, 40 rounds of races
#
# B is the build directory; SAN=1 builds with address and undefined-behaviour sanitizers; V=1 shows the
# commands.

SHELL := /bin/bash
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
SAN ?=
B ?= build$(if $(SAN),/san)
PKGS := libdrm libpci jansson
COMMA := ,

WARN := -Wall -Wextra -Werror
OPT ?= -O2 -g
# Results are defined to the bit: a*b+c stays two roundings, sums keep their order.
EXACT := -ffp-contract=off -fno-math-errno
SANFLAGS := $(if $(SAN),-fsanitize=address$(COMMA)undefined -fno-sanitize-recover=all)
ALL_CFLAGS = -std=gnu11 $(OPT) $(WARN) $(EXACT) $(SANFLAGS) -fPIC -fvisibility=hidden -pthread \
	-D_GNU_SOURCE -Ikernel/include -I. $(PKG_CFLAGS) -MMD -MP $(CFLAGS)
ALL_LDFLAGS = $(SANFLAGS) -pthread $(LDFLAGS)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS = $(shell pkg-config --libs $(PKGS))

# One short line for each thing that is made, as the kernel's own build prints them.
is_silent = $(findstring s,$(firstword -$(MAKEFLAGS)))
run = $(if $(V),,@$(if $(is_silent),,printf '  %-4s %s\n' $(1) $@ && ))

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

SRC_isa := lib/isa_text.c
SRC_checkpoint := $(wildcard lib/checkpoint/*.c)
SRC_lib := $(filter-out $(SRC_isa),$(wildcard lib/*.c lib/soft/*.c lib/token/*.c))
# The compiler refuses what the library would: it reads tokenizers by the same code.
SRC_checkpoint += lib/token/model.c lib/error.c
SRC_front := emulator/main.c $(wildcard emulator/link/*.c)
SRC_card := emulator/mem.c $(wildcard emulator/device/*.c emulator/core/*.c emulator/time/*.c)
SRC_cc := $(wildcard compiler/*.c)
# One CRC32C: of files, and of a card's copy queue.
SRC_cc += lib/crc32c.c
SRC_card += lib/crc32c.c
SRC_tools := $(wildcard tools/*.c)
SRC_ref := $(addprefix tests/ref/,ref_isa.c ref_pass.c ref_ops.c ref_mm.c ref_misc.c ref_model.c ref_model_file.c)
SRC_tests := $(filter-out $(SRC_ref),$(foreach d,abi lib emulator compiler tools ref e2e,\
	$(wildcard tests/$(d)/*.c)))
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(SRC_tests))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*.c))

PROGRAMS := $(B)/flightllm $(B)/flightllm-cc $(B)/flightllm-emu $(B)/flightllm-vm \
	$(B)/flightllm-vm-init
LIBRARIES := $(B)/libflightllm.a $(B)/libflightllm.so.0 $(B)/libflightllm-card.so

.PHONY: soak all user module tests check check-fast check-ci demo lint coverage bench-compile fuzz setup clean install
all: user module
user: $(LIBRARIES) $(PROGRAMS)
tests: user $(TESTS)

$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call run,CC)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Appended, because two rooms may have a file of the same name, of which "r" would keep one.
archive = $(call run,AR)mkdir -p $(@D) && rm -f $@ && ar qcs $@ $^
$(B)/libflightllm_isa.a: $(call obj,$(SRC_isa))
	$(archive)
$(B)/libcheckpoint.a: $(call obj,$(SRC_checkpoint))
	$(archive)
$(B)/libflightllm.a: $(call obj,$(SRC_lib) $(SRC_isa))
	$(archive)
# Apart from the others: its pci_init() is not libpci's.
$(B)/libfront.a: $(call obj,$(filter-out emulator/main.c,$(SRC_front)))
	$(archive)
$(B)/libcard.a: $(call obj,$(SRC_card))
	$(archive)
$(B)/libcc.a: $(call obj,$(filter-out compiler/main.c,$(SRC_cc)))
	$(archive)
$(B)/libtools.a: $(call obj,$(filter-out tools/main.c,$(SRC_tools)))
	$(archive)
$(B)/libref.a: $(call obj,$(SRC_ref))
	$(archive)

$(B)/libflightllm.so.0: $(call obj,$(SRC_lib) $(SRC_isa)) lib/libflightllm.map
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libflightllm.so.0 \
		-Wl,--version-script=lib/libflightllm.map -o $@ $(filter %.o,$^) $(PKG_LIBS) -ldl
$(B)/libflightllm-card.so: $(call obj,$(SRC_card))
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,libflightllm-card.so -o $@ $^ -lm
$(B)/flightllm-emu: $(call obj,$(SRC_front)) $(B)/libcard.a
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
$(B)/flightllm-cc: $(call obj,compiler/main.c) $(B)/libcc.a $(B)/libcheckpoint.a $(B)/libflightllm_isa.a
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm
$(B)/flightllm: $(call obj,tools/main.c) $(B)/libtools.a $(B)/libflightllm.a $(B)/libcheckpoint.a
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -ldl -lm
$(B)/flightllm-vm: tools/flightllm-vm
	@mkdir -p $(@D) && ln -sf $(CURDIR)/$< $@
# The VM's first process: static, for it runs before the host's libraries are in sight.
$(B)/flightllm-vm-init: tools/vm/init.c
	@mkdir -p $(@D)
	$(call run,LD)$(CC) -std=gnu11 -O2 $(WARN) -D_GNU_SOURCE -static -o $@ $<

ARCHIVES := $(addprefix $(B)/lib,tools.a cc.a flightllm.a card.a checkpoint.a ref.a)
$(B)/tests/%: $(B)/obj/tests/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(PKG_LIBS) -ldl -lm

# Structs and constants of the contracts as rows, for the tables of SPEC.md.
HEADERS := $(patsubst %,kernel/include/flightllm/%.h,regs queue isa file)
$(B)/obj/tests/abi/structs.def: tests/abi/structs.awk $(HEADERS)
	@mkdir -p $(@D)
	$(call run,AWK)awk -f $< $(HEADERS) >$@.new && mv $@.new $@
$(B)/obj/tests/abi/spec.o: $(B)/obj/tests/abi/structs.def
$(B)/obj/tests/abi/spec.o: private ALL_CFLAGS += -I$(B)/obj/tests/abi

# Its allocations go through the test, which counts them and lets them fail.
$(B)/tests/lib/nomem: private ALL_LDFLAGS += $(addprefix -Wl$(COMMA)--wrap=,malloc calloc realloc free \
	strdup strndup mmap munmap memfd_create)
$(B)/tests/emulator/vfu_dma: private ALL_LDFLAGS += -Wl,--wrap=munmap
$(B)/tests/emulator/vfu_dma: $(B)/libfront.a

# Fuzzers are built by clang in a tree of their own: tests/run.sh says how
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(filter %.a,$^) \
		-Wl,--end-group $(PKG_LIBS) -ldl -lm
$(FUZZERS): $(B)/libfront.a
fuzzers: $(FUZZERS)
.PHONY: fuzzers

module:
	@tools/setup.sh --module

setup:
	@tools/setup.sh

demo: setup
	@$(MAKE) --no-print-directory -j$$(nproc) user module
	@tests/demo.sh

check: setup
	@tests/run.sh all
check-fast:
	@tests/run.sh fast
lint:
	@tests/run.sh lint
coverage:
	@tests/coverage.sh
bench-compile: user $(B)/tests/e2e/decode $(B)/tests/ref/ref_main
	@B=$(B) tests/bench_compile.sh
FUZZ_SECONDS ?= 600
fuzz: $(B)/tests/emulator/random
	$(B)/tests/emulator/random 10000 1
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/run.sh fuzz
soak: setup user tests module
	tests/vm/uapi.sh
	RACE_ROUNDS=40 tests/vm/races.sh
	ROUNDS=50 tests/vm/kill.sh

PREFIX ?= /usr/local
# The contracts go along: whoever writes programs for the card includes <flightllm/isa.h>.
install: user
	install -d $(DESTDIR)$(PREFIX)/{bin,lib,include/{flightllm,drm},share/man/man1}
	install -m755 $(B)/flightllm $(B)/flightllm-cc $(B)/flightllm-emu tools/flightllm-vm \
		$(B)/flightllm-vm-init $(DESTDIR)$(PREFIX)/bin
	install -m755 $(B)/libflightllm.so.0 $(B)/libflightllm-card.so $(DESTDIR)$(PREFIX)/lib
	ln -sf libflightllm.so.0 $(DESTDIR)$(PREFIX)/lib/libflightllm.so
	install -m644 lib/flightllm.h lib/flightllm_isa.h kernel/include/flightllm/*.h \
		kernel/include/flightllm/*.def $(DESTDIR)$(PREFIX)/include/flightllm
	install -m644 kernel/include/drm/flightllm_accel.h $(DESTDIR)$(PREFIX)/include/drm
	install -m644 tools/*.1 $(DESTDIR)$(PREFIX)/share/man/man1

# What kbuild leaves beside sources
LEFT = $(shell grep -v "^\#" kernel/.gitignore)
clean:
	rm -rf build
	rm -f $(LEFT) $(addprefix kernel/,$(LEFT))

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

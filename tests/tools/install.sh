#!/bin/bash
# SPDX-License-Identifier: MIT
# What `make install` puts in place is whole: a client that knows nothing of this tree builds against it,
# and the tools run from there.
. "$(dirname "$0")/../tap.sh"
at=$work/root/usr

cat >"$work/client.c" <<'EOF2'
#include <stdio.h>
#include <flightllm/flightllm.h>
#include <flightllm/flightllm_isa.h>
#include <flightllm/isa.h>
#include <flightllm/queue.h>

int main(void)
{
	struct flm_device_info info;
	struct flm_device *device;
	uint32_t words[FLM_WORDS_MAX];
	char why[FLM_TEXT_BYTES];

	if (flm_device_open("emulate:tiny", &device) || flm_device_info(device, &info))
		return puts(flm_error()), 1;
	printf("%s %u\n", info.card, info.cores);
	flm_device_close(device);
	return flm_isa_parse("end", words, FLM_WORDS_MAX, why) != 1 || words[0] != 0x70000000;
}
EOF2

# The same in C++, which finds the library's functions by names of its own unless the headers say C.
cat >"$work/client.cc" <<'EOF2'
#include <cstdio>
#include <flightllm/flightllm.h>
#include <flightllm/flightllm_isa.h>

int main()
{
	char text[FLM_TEXT_BYTES];
	uint32_t words[16];

	std::printf("tiny %d\n", 1 + flm_isa_parse("end", words, 16, text));
	return !flm_error() || flm_isa_print(words, 16, text) != 1;
}
EOF2

says() { [ "$("$@")" = "tiny 2" ]; }

ok "it installs" make -s install B="$b" DESTDIR="$work/root" PREFIX=/usr
ok "a client builds with its headers and its library" gcc -Wall -Wextra -Werror -I"$at/include" \
	-o "$at/bin/client" "$work/client.c" -L"$at/lib" -lflightllm
export LD_LIBRARY_PATH=$at/lib
ok "the client opens the card that lies beside the library" says "$at/bin/client"
if command -v g++ >/dev/null; then
	ok "one in C++ builds with both headers" g++ -Wall -Wextra -Werror -I"$at/include" -o "$at/bin/client++" \
		"$work/client.cc" -L"$at/lib" -lflightllm
	ok "and runs" says "$at/bin/client++"
else
	skip "a client in C++" "no g++"
fi
ok "flightllm-cc runs from there" "$at/bin/flightllm-cc" tests/data/fables-3m -o "$work/fables.flm" --no-progress
ok "flightllm runs from there" "$at/bin/flightllm" run "$work/fables.flm" --emulate -n 3 -q
ok "each program has its manual" ls "$at"/share/man/man1/{flightllm,flightllm-cc,flightllm-emu,flightllm-vm}.1
done_testing

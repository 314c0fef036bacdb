#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes the README's pictures: tests/pictures.sh architecture, or tests/pictures.sh demo, each on stdout.
#
#   architecture   the programs and what lies between them, with counts of the contracts' rows
#   demo           `make demo` in a terminal: runs tests/demo.sh, or takes its output from a file
#
#	tests/pictures.sh architecture >.github/architecture.svg
#	tests/pictures.sh demo >.github/demo.svg
set -eu
cd "$(dirname "$0")/.."
. emulator/figures/svg.sh

# --- the architecture ---

# rows FILE PATTERN: how many.
rows() { grep -cE "$2" "kernel/include/$1"; }

# panel X Y COLOUR TITLE LINE...: of one size.
panel() {
	local y=$(($2 + 37)) line

	area "$1" "$2" 220 86 "$3" "$4"
	for line in "${@:5}"; do
		text $(($1 + 110)) $y "$line" middle
		y=$((y + 16))
	done
}

architecture() {
	figure 800 478 "The programs of FlightLLM and what lies between them"
	panel 20 20 $plain "a model" "config.json, *.safetensors," "a tokenizer: as its makers" "publish it"
	panel 290 20 $host "flightllm-cc" "compiler/" "fuses, tiles, quantises," "and proves what it has made"
	panel 560 20 $plain "model.flm" "weights in tiles for each core," "one stream of instructions" "for every length"
	panel 20 150 $host "flightllm" "tools/" "run, chat, bench," "perplexity, info, list, dis"
	panel 290 150 $host "libflightllm" "lib/" "devices, buffers, jobs," "models, sessions, tokenizers"
	panel 20 280 $card "the card in the process" "emulator/, loaded by lib/" "with --emulate"
	panel 290 280 $host "flightllm.ko" "kernel/, a DRM accel driver" "contexts, queues, memory," "fences, resets"
	panel 560 280 $card "the card" "an FPGA, or emulator/ as" "a PCI device of stock QEMU" "(vfio-user), exact to the bit"
	arrow 240 63 288 63
	arrow 510 63 558 63
	arrow 650 106 512 170
	text 600 148 "loads"
	arrow 240 193 288 193
	arrow 330 236 242 300
	text 262 258 "a function call" end
	arrow 400 236 400 278
	text 410 262 "$(rows drm/flightllm_accel.h '#define DRM_IOCTL_FLIGHTLLM_') ioctls"
	arrow 510 323 558 323
	text 534 314 "PCIe" middle
	area 20 396 760 62 $memory "kernel/include: the contracts, written once, read by all of them"
	text 400 433 "$(rows flightllm/regs.def '^REG(64)?\(') registers, $(rows flightllm/isa.def '^INSN\(') instructions, rings and jobs, the .flm file, the ioctls;" middle
	text 400 449 "emulator/SPEC.md says what the card does with them" middle
	finish
}

# --- the demo ---

# Its lines from the first step to what the run has cost, wrapped at 104, in the colours of a terminal.
demo() {
	local said

	said=$(mktemp)
	if [ $# -gt 0 ]; then
		cat "$1" >"$said"
	else
		tests/demo.sh >"$said" 2>&1
	fi
	awk -v columns=104 -v height=19 '
		function line(class, text) {
			gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
			body = body sprintf("<text class=\"%s\" x=\"20\" y=\"%d\">%s</text>\n", class, y += height, text)
		}
		function wrap(class, text,   at) {
			while (length(text) > columns) {
				for (at = columns + 1; substr(text, at, 1) != " "; at--)
					;
				line(class, substr(text, 1, at - 1))
				text = substr(text, at + 1)
			}
			line(class, text)
		}
		BEGIN { y = 48; line("typed", "$ make demo") }
		/^== 1/ { on = 1 }
		/^== /{ is_story = /^== 3/ }
		on { wrap(/^== / ? "step" : /^(prompt [0-9]|on the bus)/ ? "cost" : is_story && !/^(flightllm|\[)/ ? "story" : "plain", $0) }
		/^on the bus/ { ended = 1; exit }
		END {
			if (!ended) {
				print "tests/pictures.sh: the demo did not come to its costs" >"/dev/stderr"
				exit 1
			}
			width = 20 + columns * 8.43 + 20
			y += 24
			printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n", width, y, width, y
			print "<!-- SPDX-License-Identifier: MIT -->"
			print "<title>make demo: a model speaks from the emulated card</title>"
			print "<style>"
			print "text { font: 14px \"DejaVu Sans Mono\", Menlo, Consolas, monospace; white-space: pre; fill: #c9d1d9 }"
			print ".typed { fill: #fff; font-weight: bold } .step { fill: #79c0ff } .story { fill: #a5d6a7 } .cost { fill: #e3b341 }"
			print "</style>"
			printf "<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#0d1117\"/>\n", width, y
			print "<circle cx=\"24\" cy=\"22\" r=\"6\" fill=\"#ff5f56\"/><circle cx=\"44\" cy=\"22\" r=\"6\" fill=\"#ffbd2e\"/>" \
				"<circle cx=\"64\" cy=\"22\" r=\"6\" fill=\"#27c93f\"/>"
			printf "%s</svg>\n", body
		}' "$said"
	rm -f "$said"
}

case ${1:-} in
architecture | demo) "$@" ;;
*) echo "usage: tests/pictures.sh architecture | demo [FILE]" >&2; exit 2 ;;
esac

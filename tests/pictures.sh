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

# --- the architecture ---

# rows FILE PATTERN: how many.
rows() { grep -cE "$2" "kernel/include/$1"; }

# box X Y WIDTH HEIGHT CLASS TITLE LINE...
box() {
	local x=$1 y=$2 width=$3 height=$4 class=$5 title=$6 at line

	shift 6
	at=$((y + 28))
	echo "<rect class='$class' x='$x' y='$y' width='$width' height='$height' rx='8'/>"
	echo "<text class='title' x='$((x + 14))' y='$at'>$title</text>"
	for line; do
		at=$((at + 20))
		echo "<text x='$((x + 14))' y='$at'>$line</text>"
	done
}

# arrow X Y TO-X TO-Y LABEL-X LABEL-Y LABEL
arrow() {
	echo "<path class='arrow' d='M$1 $2L$3 $4'/><text class='label' x='$5' y='$6'>$7</text>"
}

architecture() {
	cat <<'END'
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 590" width="960" height="590" role="img">
<!-- SPDX-License-Identifier: MIT -->
<title>The programs of FlightLLM and what lies between them</title>
<style>
text { font: 14px "DejaVu Sans", Verdana, sans-serif; fill: #24292f }
.title { font-weight: bold; font-size: 16px }
.label { font-size: 13px; fill: #57606a }
rect { stroke: #57606a; fill: #fff }
.frame { stroke: #d0d7de }
.program { fill: #ddf4ff; stroke: #0969da }
.card { fill: #dafbe1; stroke: #1a7f37 }
.contract { fill: #fff8c5; stroke: #9a6700 }
.arrow { stroke: #57606a; stroke-width: 2; fill: none; marker-end: url(#head) }
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L10 5L0 10z" fill="#57606a"/></marker></defs>
<rect class="frame" x="0.5" y="0.5" width="959" height="589" rx="10"/>
END
	box 30 30 250 110 file "a model" "config.json, *.safetensors," "a tokenizer: as its makers" "publish it"
	box 355 30 250 110 program "flightllm-cc" "compiler/" "fuses, tiles, quantises," "and proves what it has made"
	box 680 30 250 110 file "model.flm" "weights in tiles for each core," "one stream of instructions" "for every length"
	box 30 190 250 110 program "flightllm" "tools/" "run, chat, bench," "perplexity, info, list, dis"
	box 355 190 250 110 program "libflightllm" "lib/" "devices, buffers, jobs," "models, sessions, tokenizers"
	box 30 350 250 110 card "the card in the process" "emulator/, loaded by lib/" "with --emulate"
	box 355 350 250 110 program "flightllm.ko" "kernel/, a DRM accel driver" "contexts, queues, memory," "fences, resets"
	box 680 350 250 110 card "the card" "an FPGA, or emulator/ as" "a PCI device of stock QEMU" "(vfio-user), exact to the bit"
	arrow 280 85 355 85 290 75 ""
	arrow 605 85 680 85 615 75 ""
	arrow 780 140 607 215 715 190 "loads"
	arrow 280 245 355 245 290 235 ""
	arrow 400 300 282 372 250 330 "a function call"
	arrow 480 300 480 350 490 330 "$(rows drm/flightllm_accel.h '#define DRM_IOCTL_FLIGHTLLM_') ioctls"
	arrow 605 405 680 405 625 395 "PCIe"
	box 30 500 900 66 contract "kernel/include: the contracts, written once, read by all of them" \
		"$(rows flightllm/regs.def '^REG(64)?\(') registers, $(rows flightllm/isa.def '^INSN\(') instructions, rings and jobs, the .flm file, the ioctls; emulator/SPEC.md says what the card does with them"
	echo "</svg>"
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

#!/bin/bash
# SPDX-License-Identifier: MIT
# Draws the figures of ../SPEC.md into this folder, or into the folder that is named. Numbers and
# names of fields come from kernel/include. A figure is a function of its name.
set -eu
cd "$(dirname "$0")"
to=${1:-.}
include=../../kernel/include/flightllm
. ./svg.sh

# --- facts ---

# value NAME: of a macro or an enumerator.
value() {
	local found

	found=$(awk -v name="$1" '$1 == "#define" && $2 == name { print $3; exit }
		$1 == name && $2 == "=" { sub(/,.*/, "", $3); print $3; exit }' "$include"/*.h)
	[ -n "$found" ] || { echo "draw.sh: no $1 in $include" >&2; exit 1; }
	echo "$found"
}

# at STRUCT FIELD: its byte offset. Fields are __le16 name; or __u8 name[number];
at() {
	local found

	found=$(awk -v struct="$1" -v field="$2" '
		$0 == "struct " struct " {" { on = 1; next }
		on && /^}/ { exit }
		on && $1 ~ /^__(le|u)[0-9]+$/ {
			bytes = $1; gsub(/[^0-9]/, "", bytes); bytes /= 8
			name = $2; sub(/;.*/, "", name); many = 1
			if (name ~ /\[/) { many = name; sub(/.*\[/, "", many); sub(/\[.*/, "", name) }
			if (name == field) { print offset + 0; exit }
			offset += bytes * many
		}' "$include"/*.h)
	[ -n "$found" ] || { echo "draw.sh: no $1.$2 in $include" >&2; exit 1; }
	echo "$found"
}

# --- the figures ---

# The cores, with what each has.
blocks_cores() {
	local c units

	mapfile -t units < <(awk -F'[(,]' '/^UNIT\(/ { print $2 }' $include/names.def)
	for c in 2 1 0; do
		area $((420 + 8 * c)) $((226 + 8 * c)) 500 262 $core
	done
	head 670 243 "Core 0 .. $(($(value FLM_CORES) - 1)) at most"
	text 432 266 "${#units[@]} units, an in-order stream each:"
	for c in "${!units[@]}"; do
		box $((432 + 80 * c)) 274 72 32 $plain "${units[c]}"
	done
	area 432 318 472 34 $plain
	text 668 339 "token queues: one for each ordered pair of units, 0 to $(value FLM_TOKEN_DEPTH) tokens" \
		middle 'font-size="11"'
	for c in 0 1 2 3 4 5; do
		wave $ink $((468 + 80 * c)),306 $((468 + 80 * c)),318
	done
	text 432 380 "On-chip buffers:"
	box 432 388 112 44 $memory "ACT" "activations"
	box 552 388 112 44 $memory "WGT" "weights, K, V"
	box 672 388 112 44 $memory "IDX" "N, masks, ids"
	box 792 388 112 44 $memory "GLB" "shared"
	note 432 456 "LD and ST move bytes between memory and buffers. MM, MV and MISC compute"
	note 432 472 "in the buffers. SYS meets the other cores of the job in the exchange."
}

blocks() {
	figure 960 600 "The blocks of a card"
	area 20 20 150 560 $host "Host"
	box 35 60 120 50 $plain "driver, library"
	area 35 150 120 250 $memory "host memory"
	box 45 180 100 34 $plain "rings"
	box 45 222 100 34 $plain "completions"
	box 45 264 100 34 $plain "status pages"
	box 45 306 100 38 $plain "context pages," "segment tables"
	box 45 352 100 38 $plain "jobs, tokens," "logits"

	area 260 20 680 560 $card "Card"
	box 275 50 120 40 $plain "BAR0: registers"
	box 275 100 120 40 $plain "BAR4: doorbells"
	box 275 150 120 40 $plain "DMA, MSI-X"
	box 275 200 120 40 $plain "BAR2: window"
	arrow 155 70 273 70
	arrow 155 90 273 116
	arrow 157 190 273 172 both
	arrow 155 106 273 215
	text 214 58 "PCIe" middle 'font-weight="bold"'

	box 450 50 180 90 $plain "scheduler" "queues, slots," "completion rows, status"
	box 450 160 145 42 $plain "copy engine" "runs copy queues"
	box 680 50 240 90 $plain "segment tables" "every access of a core or of" "the copy engine is checked"
	arrow 395 70 448 80
	arrow 395 120 448 110
	arrow 448 135 397 160 both
	arrow 520 140 520 158
	arrow 615 140 615 224
	arrow 448 180 397 174 both
	arrow 632 95 678 95

	blocks_cores
	area 275 512 390 60 $memory "memory: every core and the copy engine reach all of it"
	box 285 536 200 28 $plain "HBM of each core"
	box 495 536 160 28 $plain "DDR"
	box 690 520 236 44 $plain "exchange" "gather, max, sum, top-k, barrier"
	wave $ink 520,504 520,512
	wave $ink 808,504 808,520
	arrow 335 240 335 510 both
	wave $ink 450,194 408,194 408,500
	arrow 408 498 408 510
	finish
}

# step Y FROM TO WORDS: an arrow between two lifelines, its words above.
step() {
	arrow "$2" "$1" "$3" "$1"
	label $((($2 + $3) / 2)) $(($1 - 6)) "$4" middle
}

job() {
	local x name

	figure 940 690 "The life of a job, from posted to reaped"
	for name in "100 Host:_driver $host" "330 Memory $memory" "570 Card:_scheduler $card" \
			"820 Card:_cores $core"; do
		# shellcheck disable=SC2086 # a place, a name and a colour
		set -- $name
		x=$1
		box $((x - 75)) 15 150 30 "$3" "${2//_/ }"
		dash "$x" 45 "$x" 675
	done
	step 80 100 328 "1 program, job, weights, tables"
	step 110 100 328 "2 slot into the ring"
	step 140 100 568 "store the tail into the doorbell"
	step 170 100 568 "KICK, only if armed was 1"
	box 495 190 150 40 $plain "waits for its turn" "and for free cores"
	step 250 332 568 "3 slot"
	step 272 570 332 "generation into the status page"
	step 294 332 568 "tables, record, row, program"
	box 480 304 180 40 $plain "copies, then checks each;" "refused: ends with a fault"
	step 370 570 818 "4 pass 0: a chunk of the prompt"
	box 755 382 130 34 $plain "runs to the END"
	step 440 818 572 "point"
	step 464 570 332 "logits, token; then status page"
	area 480 478 430 72 $plain
	text 695 498 "passes until the job ends: chunks, then one a token" middle
	text 695 516 "At each point another queue may get the cores;" middle 'font-size="11"'
	text 695 534 "stop token, STOP word or a full page list end the job." middle 'font-size="11"'
	step 580 570 332 "5 completion row"
	step 604 570 332 "barrier, then status page"
	step 630 570 102 "MSI-X message, if the slot asks for it"
	step 660 330 102 "6 reads the row: reaped"
	finish
}

# lane Y NAME [RIGHT]: a row of a timing diagram; its wave runs from y (high) to y + 24 (low).
lane() {
	text 130 $(($1 + 17)) "$2" end
	echo "<line x1=\"140\" y1=\"$(($1 + 30))\" x2=\"${3:-960}\" y2=\"$(($1 + 30))\" stroke=\"#d8dee4\"/>"
}

# word X1 X2 Y WORDS: a value that holds for a while.
word() {
	wave $ink "$1,$(($3 + 12))" "$(($1 + 4)),$3" "$(($2 - 4)),$3" "$2,$(($3 + 12))" \
		"$(($2 - 4)),$(($3 + 24))" "$(($1 + 4)),$(($3 + 24))" "$1,$(($3 + 12))"
	text $((($1 + $2) / 2)) $(($3 + 16)) "$4" middle 'font-size="11"'
}

# phase X Y W COLOUR WORDS: what a side does for a while.
phase() { box "$1" "$2" "$3" 26 "$4" "$5"; }

doorbell() {
	local x

	figure 1070 400 "A doorbell: how a card sleeps and is woken"
	for x in "258 A:_falls_asleep" "510 B:_woken_by_KICK" "740 C:_no_KICK" "940 D:_both_at_once"; do
		# shellcheck disable=SC2086
		set -- $x
		head "$1" 28 "${2//_/ }"
	done
	for x in 370 650 830; do dash $x 15 $x 276; done
	lane 60 "host" 1045
	lane 105 "doorbell word" 1045
	lane 150 "armed" 1045
	lane 195 "KICK" 1045
	lane 240 "card" 1045
	phase 145 240 60 $card "at work"
	phase 205 240 165 $plain "armed=1, barrier, reads"
	phase 385 60 160 $host "store, barrier, reads 1"
	phase 370 240 200 $plain "asleep"
	phase 570 240 80 $card "at work"
	phase 660 60 160 $host "store, barrier, reads 0"
	phase 650 240 180 $card "at work"
	phase 880 60 165 $host "store, barrier, reads"
	phase 835 240 210 $plain "armed=1, barrier, reads new"
	word 145 400 107 "tail n"
	word 400 675 107 "n + 1"
	word 675 895 107 "n + 2"
	word 895 1045 107 "n + 3"
	wave $red 145,174 222,174 222,152 552,152 552,174 852,174 852,152 1030,152 1030,174 1045,174
	text 185 168 "0" middle
	text 450 168 "1" middle
	text 740 168 "0" middle
	text 940 168 "1" middle
	wave $ink 145,219 562,219 562,197 570,197 570,219 1045,219
	arrow 568 221 574 238
	text 150 300 "A" start 'font-weight="bold"'
	text 170 300 "The queue is empty: the card stores armed = 1, passes a full barrier and reads the doorbell again."
	text 150 320 "B" start 'font-weight="bold"'
	text 170 320 "The host reads armed = 1 behind its barrier. It stores armed = 0, then writes the queue's number to KICK."
	text 150 340 "C" start 'font-weight="bold"'
	text 170 340 "The card is at work: armed is 0, so the host writes no register. The card reads the tail at a point."
	text 150 360 "D" start 'font-weight="bold"'
	text 170 360 "The two barriers: at least one side sees the other's store. Here the card does, and stores armed = 0."
	text 170 378 "A host that has read the 1 in between writes KICK as well, which does no harm."
	finish
}

completion() {
	local x

	figure 980 420 "The end of a job: what the card writes, in order"
	for x in "200 1:_the_pass" "372 2:_tells_of_it" "572 3:_status_page" "745 4:_message"; do
		# shellcheck disable=SC2086
		set -- $x
		head "$1" 28 "${2//_/ }"
	done
	for x in 270 475 670 820; do dash $x 15 $x 318; done
	lane 50 "card memory, logits"
	lane 95 "ring, top list"
	lane 140 "completion row"
	lane 185 "status page"
	lane 230 "MSI-X"
	lane 275 "host"
	phase 150 50 110 $card "ST, logits"
	phase 280 95 80 $card "token"
	phase 365 140 105 $card "row i"
	phase 480 185 185 $card "seqno, head, made .."
	wave $ink 145,254 725,254 725,232 733,232 733,254 955,254
	phase 750 275 66 $host "wakes"
	phase 825 275 135 $host "head, row i"
	arrow 260 76 282 93
	arrow 360 121 372 138
	arrow 470 166 488 183
	arrow 665 211 722 230
	arrow 735 256 752 273
	note 275 334 "barrier" middle
	note 475 334 "barrier" middle
	note 670 334 "barrier" middle
	text 145 366 "Row i, bytes of struct flm_done: seqno at $(at flm_done seqno), status at $(at flm_done status), \
value (tokens) at $(at flm_done value), fault at $(at flm_done fault), points at $(at flm_done points)."
	text 145 386 "Status page: armed at $(at flm_status_page armed), head at $(at flm_status_page head), \
seqno at $(at flm_status_page seqno), running (now 0) at $(at flm_status_page running), \
made at $(at flm_status_page made),"
	text 145 404 "generation (now 0) at $(at flm_status_page generation). The message goes only if the slot has \
FLM_SLOT_INTERRUPT."
	finish
}

# bytes X Y SCALE STRUCT FIELD BYTES WORDS: a field of a table row.
bytes() {
	local offset

	offset=$(at "$4" "$5")
	area $(($1 + offset * $3)) "$2" $(($6 * $3)) 34 $plain
	text $(($1 + offset * $3 + $6 * $3 / 2)) $(($2 + 21)) "$7" middle 'font-size="11"'
	note $(($1 + offset * $3)) $(($2 + 48)) "$offset"
}

# The matrix that is cut, and the bytes of a dense group.
strip_matrix() {
	local i

	head 20 28 "A matrix, rows x K" start
	area 20 40 300 150 $plain
	echo "<rect x=\"20\" y=\"80\" width=\"300\" height=\"30\" fill=\"$core\" stroke=\"$ink\"/>"
	text 330 100 "a strip: $strip rows"
	dash 200 40 200 190
	note 110 206 "K tile: $tile columns" middle
	note 260 206 "the last is shorter" middle
	for i in 0 1 2 3 4 5; do
		echo "<line x1=\"$((20 + 30 * i))\" y1=\"80\" x2=\"$((20 + 30 * i))\" y2=\"110\" stroke=\"$grey\"/>"
	done
	note 330 120 "cut into groups of $group columns with a scale for"
	note 330 134 "each row, and into blocks of $strip x $strip"

	head 640 28 "First vectors of a dense group, 8 bits" start
	area 640 40 320 150 $plain
	for i in 0 1 2 3; do
		echo "<line x1=\"$((640 + 80 * i))\" y1=\"40\" x2=\"$((640 + 80 * i))\" y2=\"150\" stroke=\"$grey\"/>"
		text $((680 + 80 * i)) 60 "vector $i" middle
		note $((680 + 80 * i)) 80 "columns" middle
		note $((680 + 80 * i)) 94 "$((4 * i)) .. $((4 * i + 3))" middle
		note $((680 + 80 * i)) 120 "bytes" middle
		note $((680 + 80 * i)) 134 "$((64 * i)) .. $((64 * i + 63))" middle
	done
	echo "<line x1=\"640\" y1=\"150\" x2=\"960\" y2=\"150\" stroke=\"$ink\"/>"
	text 800 174 "byte 4r + j of vector q: row r, column 4q + j" middle
	note 640 206 "b bits, c columns: a group takes 2 b c bytes"
}

strip() {
	local strip group tile

	strip=$(value FLM_STRIP) group=$(value FLM_GROUP) tile=$(value FLM_TILE_COLS)
	figure 980 640 "A strip in memory"
	strip_matrix

	head 20 244 "Row s * ceil(K / $tile) + k of the strip table, for strip s and K tile k: 32 bytes" start
	bytes 20 256 29 flm_strip width 1 "w"
	bytes 20 256 29 flm_strip flags 1 "fl"
	bytes 20 256 29 flm_strip blocks 2 "blocks"
	bytes 20 256 29 flm_strip codes 4 "codes"
	bytes 20 256 29 flm_strip n 4 "n"
	bytes 20 256 29 flm_strip masks 4 "masks"
	bytes 20 256 29 flm_strip scales 4 "scales"
	bytes 20 256 29 flm_strip reserved 12 "reserved: 0"
	note 20 322 "w: width, bits a code. fl: flags, 1 = sparse. blocks: K of the tile / $strip. codes, n, masks, \
scales: offsets in the segment, in units of 64 bytes; n and masks are 0 when dense."

	head 20 354 "In the segment: up to four parts, each padded to 64 bytes and followed by 64 readable bytes" start
	box 20 400 300 44 $core "codes: dense 2 b bytes a column," "sparse 2 N b bytes a block"
	box 345 400 150 44 $card "scales" "32 bytes a group"
	box 520 400 150 44 $memory "N" "1 byte a block"
	box 695 400 265 44 $memory "masks" "32 bytes a block with N = 2, 4, 8"
	note 20 391 "64 * codes"
	note 345 391 "64 * scales"
	note 520 391 "64 * n, sparse only"
	note 695 391 "64 * masks, sparse only"
	note 20 462 "Scales: float16 [group][$strip rows]. Mask: four 64-bit words, word j = rows j, j + 4, j + 8, \
j + 12 in bits 15:0, 31:16, 47:32, 63:48; bit c of 16: column c is kept."

	head 20 500 "On chip, where ld.tile puts strip s" start
	text 20 538 "weight buffer, DST + s * PITCH:"
	box 300 516 230 34 $core "codes, padded to 64"
	box 530 516 230 34 $card "scales, padded to 64"
	text 20 588 "index buffer, IDX + s * IDX_PITCH:"
	box 300 566 230 34 $memory "N, padded to 64"
	box 530 566 230 34 $memory "masks, padded to 64"
	note 775 588 "sparse only"
	note 20 624 "N is 0, 2, 4, 8 or 16. A block with N = 0 has no codes, one with N = 0 or 16 has no mask."
	finish
}

kv() {
	local page i x

	page=$(value FLM_PAGE)
	figure 980 560 "A KV page"
	head 20 28 "A page holds $page positions of all layers and of a core's own KV heads" start
	label 20 46 "H: the greatest number of KV heads of any core. D: head_dim. G: D / 64, rounded up. L: layers."
	text 20 84 "values, int8"
	box 20 94 215 40 $core "layer 0, K"
	box 235 94 215 40 $memory "layer 0, V"
	box 450 94 215 40 $core "layer 1, K"
	box 665 94 215 40 $memory "layer 1, V"
	box 880 94 80 40 $plain ".."
	label 20 148 "0"
	label 235 148 "H * $page * D"
	label 450 148 "2 * H * $page * D"
	label 960 148 "2 * L * H * $page * D" end
	dash 20 154 20 190
	dash 235 154 760 190
	for i in 0 1 2; do
		box $((20 + 185 * i)) 190 185 40 $core "head $i"
	done
	box 575 190 185 40 $core ".. head H - 1"
	label 205 244 "$page * D bytes a head"
	dash 20 250 20 286
	dash 205 250 760 286
	for i in 0 1 2; do
		box $((20 + 185 * i)) 286 185 40 $core "position $i"
	done
	box 575 286 185 40 $core ".. position $((page - 1))"
	label 205 340 "D bytes a position"
	label 20 360 "position p of K (v = 0) or V (v = 1) of head h in layer l: ((2 l + v) * H + h) * $page * D + p * D"
	text 20 398 "scales, float32, from the next multiple of 64 on"
	x=20
	for i in 0 1; do
		box $x 408 260 40 $core "layer $i, K: [head][position][G]"
		box $((x + 260)) 408 170 40 $memory "V: [head][position]"
		x=$((x + 430))
	done
	box 880 408 80 40 $plain ".."
	label 20 462 "0"
	label 280 462 "H * $page * G * 4"
	label 450 462 "H * $page * (G + 1) * 4"
	label 960 462 "L * H * $page * (G + 1) * 4" end
	text 20 500 "K has a scale for every 64 dims of a position, V one for the whole position. The page is rounded \
up to 64 bytes."
	text 20 520 "Position p of a sequence lies in page p / $page of its page list, at p modulo $page. ld.kv and \
st.kv take VALUES and"
	text 20 538 "SCALES, the places of position 0 of one layer, K or V and head, and walk from there."
	finish
}

for figure in blocks job doorbell completion strip kv; do
	$figure >"$to/$figure.svg"
done

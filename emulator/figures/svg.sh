# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034 # colours are for those who draw
# Sourced by what draws: SVG on stdout, of boxes, arrows and words, on a white ground so that it can
# be read on a dark page. Coordinates are pixels from the top left, x y width height. Words hold no <
# and no ampersand.

ink='#1f2328' grey='#57606a' red='#b42318'
host='#fde8d7' card='#dcebfb' core='#dff3df' memory='#fff3c4' plain='#ffffff'

# figure WIDTH HEIGHT TITLE: what follows is in it, until finish.
figure() {
	echo "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"$1\" height=\"$2\" viewBox=\"0 0 $1 $2\">"
	echo "<!-- ${0##*/} makes this file"
	echo "SPDX-License-Identifier: MIT"
	echo "-->"
	echo "<title>$3</title>"
	echo "<defs><marker id=\"tip\" markerWidth=\"9\" markerHeight=\"8\" refX=\"8\" refY=\"4\"" \
		"orient=\"auto-start-reverse\"><path d=\"M0,0 L9,4 L0,8 z\" fill=\"$ink\"/></marker></defs>"
	echo "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
	echo "<g font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\" font-size=\"12\" fill=\"$ink\">"
}

finish() { echo "</g></svg>"; }

# text X Y WORDS [start|middle|end] [ATTRIBUTES]
text() { echo "<text x=\"$1\" y=\"$2\" text-anchor=\"${4:-start}\" ${5:-}>$3</text>"; }
note() { text "$1" "$2" "$3" "${4:-start}" "fill=\"$grey\" font-size=\"11\""; }
# label X Y WORDS [ANCHOR]: a note that may stand on a line.
label() {
	text "$1" "$2" "$3" "${4:-start}" \
		'font-size="11" stroke="#ffffff" stroke-width="4" paint-order="stroke"'
}
head() { text "$1" "$2" "$3" "${4:-middle}" 'font-weight="bold"'; }

# area X Y W H COLOUR [TITLE]: a box with its title at the top.
area() {
	echo "<rect x=\"$1\" y=\"$2\" width=\"$3\" height=\"$4\" rx=\"4\" fill=\"$5\" stroke=\"$ink\"/>"
	[ -z "${6:-}" ] || head $(($1 + $3 / 2)) $(($2 + 17)) "$6"
}

# box X Y W H COLOUR LINE...: lines of text in its middle.
box() {
	local x=$(($1 + $3 / 2)) y=$(($2 + $4 / 2 + 4)) line

	area "$1" "$2" "$3" "$4" "$5"
	shift 5
	y=$((y - 8 * ($# - 1)))
	for line; do
		text "$x" "$y" "$line" middle
		y=$((y + 16))
	done
}

# arrow X1 Y1 X2 Y2 [both]; dash X1 Y1 X2 Y2; wave COLOUR X,Y...
arrow() {
	echo "<line x1=\"$1\" y1=\"$2\" x2=\"$3\" y2=\"$4\" stroke=\"$ink\" marker-end=\"url(#tip)\"" \
		"${5:+marker-start=\"url(#tip)\"}/>"
}
dash() {
	echo "<line x1=\"$1\" y1=\"$2\" x2=\"$3\" y2=\"$4\" stroke=\"$grey\" stroke-dasharray=\"4 4\"/>"
}
wave() {
	echo "<polyline points=\"${*:2}\" fill=\"none\" stroke=\"$1\" stroke-width=\"2\"/>"
}

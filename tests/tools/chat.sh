#!/bin/bash
# SPDX-License-Identifier: MIT
# flightllm run --chat: one session, a line a turn, in the form that the model was trained for; and
# what only a terminal sees. All answers are greedy. Prints TAP.
. "$(dirname "$0")/tools.sh"

run=(flightllm run fables.flm --emulate --temp 0 -n 12)

# field N KEY: of the Nth JSON object in the output.
field() {
	perl -MJSON::PP -0777 -ne '
		my @all = JSON::PP->new->utf8->incr_parse($_);
		print $all['"$1"' - 1]{'"$2"'}' "$work/out"
}

# answer PROMPT: the answer to one prompt without a chat, as text behind it.
answer() {
	"$b/${run[0]}" "${run[@]:1}" -q --json -p "$1" >"$work/out" && field 1 text
}

same() {
	[ "$1" = "$2" ] || { printf '# "%s"\n# is not\n# "%s"\n' "$1" "$2"; return 1; }
}

# --- plain turns ---

first=$(answer "Once upon a time")
second=$(answer "Once upon a time$first The king said")
run_in $'Once upon a time\nThe king said\n' "${run[@]}" -q --chat --json
ok "a chat ends well with its input" [ "$status" = 0 ]
ok "the first turn is answered as a prompt is" same "$(field 1 text)" "${first# }"
ok "the second goes on where the first has ended" same "$(field 2 text)" "${second# }"
ok "and only its own words are computed" same "$(field 1 prompt_tokens) $(field 2 prompt_tokens)" "5 3"
ok "nothing is said on stderr" [ ! -s "$work/err" ]

run_in $'Once upon a time\nThe king said' "${run[@]}" -q --chat
ok "a last line without its end counts, and answers are lines" same "$(cat "$work/out")" "${first# }
${second# }"
run_in $'The king said\n' "${run[@]}" -q --chat -p "Once upon a time"
ok "-p is the first turn" same "$(cat "$work/out")" "${first# }
${second# }"
run_in $'Once upon a time\n\n' "${run[@]}" -q --chat --json
ok "an empty line lets the model go on" same "$(field 2 text)" "$(answer "Once upon a time$first" | sed 's/^ //')"
run_in $'A cat\n/clear\nOnce upon a time\n/exit\nA dog\n' "${run[@]}" -q --chat --json
ok "/clear forgets what was said" same "$(field 2 text)" "${first# }"
ok "and /exit ends the chat" same "$(grep -c '"text"' "$work/out") $status" "2 0"
run_in $'/help\n/dance\n' "${run[@]}" -q --chat
ok "/help lists the commands" grep -q '^/clear' "$work/err"
ok "what is none is said to be none" grep -q '^flightllm run: unknown command /dance; /help lists those known$' "$work/err"
ok "and neither is a turn" [ ! -s "$work/out" ]
run_in "" "${run[@]}" -q --chat --system "Once upon a time" -p "The king said" --json
line=$(field 1 text)
ok "--system is a line before the first turn" same "$line" \
	"$(answer $'Once upon a time\nThe king said' | sed 's/^ //')"

run_in "$(printf 'a king and a queen %.0s' {1..60})"$'\n' "${run[@]}" -q --chat
ok "a turn that the context has no room for is an error where nobody can answer" same \
	"$status $(grep -c 'shorten' "$work/err")" "1 1"
run_in "" "${run[@]}" -q --json -p "$(printf '\xff%.0s' {1..40})"
ok "bytes that are no UTF-8 are three tokens each, and a prompt" same "$status" 0 || cat "$work/err"

# --- the sampler ---

any=(--temp 100 --top-k 0 --min-p 0 --seed 1)
run_in "" "${run[@]}" "${any[@]}" -q --json -p "Once upon a time"
line=$(field 1 text)
run_in "" "${run[@]}" "${any[@]}" -q --json -p "Once upon a time" --top-p 0
ok "--top-p 0 leaves the most likely token, and without it there are others" same \
	"$(field 1 text)$([ "$line" != "$first" ] || echo "!")" "$first"

# is_default OPTION VALUE OTHER ARGUMENT...: among these, to leave an option out is to give it that value,
# and another is seen.
is_default() {
	local option=$1 value=$2 other=$3 left
	shift 3
	sampled "$@" && left=$(field 1 text) && sampled "$@" "$option" "$value" && same "$(field 1 text)" "$left" &&
		sampled "$@" "$option" "$other" && [ "$(field 1 text)" != "$left" ]
}
sampled() {
	run_in "" flightllm run fables.flm --emulate -q --json -p "Once upon a time" -n 100 --seed 1 "$@"
	[ "$status" = 0 ]
}
ok "without --temp it is 0.8" is_default --temp 0.8 0.81 --top-k 0 --top-p 1 --min-p 0
ok "without --top-k it is 40" is_default --top-k 40 39 --temp 100 --top-p 1 --min-p 0
ok "without --top-p it is 0.95" is_default --top-p 0.95 0.96 --temp 1 --top-k 0 --min-p 0
ok "without --min-p it is 0.05" is_default --min-p 0.05 0.04 --temp 1 --top-k 0 --top-p 1

# --- the end of a text: here the full stop, which the model writes soon ---

cp -r "$model" stops && sed -i 's/"eos_token_id": [0-9]*/"eos_token_id": 1982/' stops/config.json
"$b/flightllm-cc" stops -o stops.flm --no-progress >/dev/null || exit 1
run[2]=stops.flm
run_in $'Once upon a time\nOnce upon a time\n' "${run[@]}" -q --chat --json
ok "an answer ends where the model ends it" same "$(field 1 end)" stop_token
ok "and the next turn begins a text as the first did" same "$(field 2 prompt_tokens)" "$(field 1 prompt_tokens)"
run[2]=fables.flm

# --- the form of a model that has one ---

# with_template NAME TEMPLATE: NAME.flm, from a model with that chat template, and a number that is in
# many models and in no integer.
with_template() {
	cp -r "$model" "$1" && echo "{\"model_max_length\": 1000000000000000019884624838656,
		\"chat_template\": $2}" >"$1/tokenizer_config.json" &&
		"$b/flightllm-cc" "$1" -o "$1.flm" --no-progress >/dev/null
}
with_template llama2 '"{% if system %}<<SYS>>{% endif %}[INST] {{ message }} [/INST]"'
with_template other '"[INST] {{ message }} [/INST]"'

run[2]=llama2.flm
run_in $'A fox\nA dog\n\n' "${run[@]}" -q --chat --json
one=$(field 1 text) two="$(field 1 prompt_tokens) $(field 2 prompt_tokens)" turns=$(grep -c '"text"' "$work/out")
ok "a turn of LLaMA-2 stands between [INST] and [/INST]" same "$one" \
	"$(answer "[INST] A fox [/INST]" | sed 's/^ //')"
prompt=$(field 1 prompt_tokens)
answer "[INST] A dog [/INST]" >/dev/null
ok "one behind an answer that was cut off is preceded by its end and a new beginning" same "$two" \
	"$prompt $(($(field 1 prompt_tokens) + 1))"
ok "an empty line is no turn" same "$turns" 2
run_in "" "${run[@]}" -q --chat --json -p "A fox" --system "Be kind."
ok "--system stands between <<SYS>> and <</SYS>>" same "$(field 1 text)" \
	"$(answer $'[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nA fox [/INST]' | sed 's/^ //')"

# A name that is no UTF-8 stands in the compiler's notes, beside the form.
with_template $'b\xffd' '"{% if system %}<<SYS>>{% endif %}[INST] {{ message }} [/INST]"'
run[2]=$'b\xffd.flm'
run_in "" "${run[@]}" --chat --json -p "A fox"
ok "the form does not depend on the folder's name" same "$(field 1 text)" "$one"
ok "and no word is lost about it" same "$(grep -c 'chat form' "$work/err")" 0
with_change 7 0 x <llama2.flm >spoiled.flm	# its notes
run[2]=spoiled.flm
run_in $'Once upon a time\n' "${run[@]}" --chat
ok "notes that cannot be read are said to be, and the chat is plain" same \
	"$(cat "$work/out") $(grep -c 'its chat form is not known; .*; compile it again' "$work/err")" "${first# } 1"

run[2]=other.flm
run_in $'Once upon a time\n' "${run[@]}" --chat
ok "another template is not followed, and that is said" same "$(cat "$work/out")" "${first# }"
ok "in one line" same "$(grep -c 'has a chat template of its own' "$work/err")" 1
run[2]=fables.flm

# --- Ctrl-C ---

# All turns are there before it comes, so it finds one of them at work whenever it comes.
turns=30
mkfifo lines
: >"$work/out"	# or what is there from before would look like its first words
"$b/${run[0]}" "${run[@]:1}" -n 200 --ignore-eos -q --chat --json <lines >"$work/out" 2>"$work/err" &
pid=$!
exec 5>lines
for ((i = 0; i < turns; i++)); do
	printf 'Once upon a time\n/clear\n'
done >&5
for ((i = 0; i < 12000; i++)); do
	[ ! -s "$work/out" ] || break
	sleep 0.005
done
kill -INT $pid
exec 5>&-
wait $pid
ended=$?
# How many answers ended in which way, and which of them before they had all their tokens.
ends() {
	perl -MJSON::PP -0777 -ne 'my %n;
		$n{$_->{end} . ($_->{tokens} < 200 ? " early" : "")}++ for JSON::PP->new->utf8->incr_parse($_);
		print join(", ", map { "$n{$_} $_" } sort keys %n)' "$work/out"
}
ok "Ctrl-C ends an answer and not the chat: status 0" same "$ended" 0
ok "the answer is shorter than those that nobody ends" same "$(ends)" "$((turns - 1)) count, 1 stopped early"

# A turn that is ended while its prompt is computed, and it alone, was not said. No output tells that moment: it
# is sought behind the answer before, a little later each time.

# ended_early LINE-BEFORE LINES-BEHIND ARGUMENT...: the second object of the output is such a turn.
ended_early() {
	local before=$1 behind=$2 long i try
	shift 2
	long=$(printf 'a king and a queen %.0s' {1..40})
	for ((try = 0; try < 20; try++)); do
		: >"$work/out"
		"$b/${run[0]}" "${run[@]:1}" -q --chat --json "$@" <lines >"$work/out" 2>"$work/err" &
		pid=$!
		exec 5>lines
		printf '%s\n%s\n%s\n' "$before" "$long" "$behind" >&5
		for ((i = 0; i < 12000; i++)); do
			[ ! -s "$work/out" ] || break
			sleep 0.005
		done
		sleep "0.0$((try % 10))"
		kill -INT $pid
		exec 5>&-
		wait $pid
		[ "$(field 2 end) $(field 2 tokens)" != "stopped 0" ] || return 0
	done
	return 1
}
line=$(answer $'Once upon a time\nThe king said' | sed 's/^ //')
words=$(field 1 prompt_tokens)
ok "Ctrl-C ends a turn before its answer" ended_early $'A fox\n/clear' "The king said" --system "Once upon a time"
ok "the next one is the first, and has the system's text" same "$(field 3 text) $(field 3 prompt_tokens)" "$line $words"
line=$(answer "Once upon a time$first" | sed 's/^ //')
ok "Ctrl-C ends a second turn before its answer" ended_early "Once upon a time" ""
ok "the model goes on from what was said before" same "$(field 3 text)" "$line"

# --- a terminal ---

# terminal INPUT ARGUMENT...: both outputs are one, a terminal's.
terminal() {
	local input=$1
	shift
	{ sleep 2; printf '%s' "$input"; sleep 1; } |
		timeout 60 script -qec "$(printf '%q ' "$b/${run[0]}" "${run[@]:1}" "$@")" /dev/null >"$work/out" 2>"$work/err"
	status=${PIPESTATUS[1]}
}
if ! script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	skip "a terminal" "script(1) makes none here"
	done_testing
fi
terminal "" -p "Once upon a time"
ok "a bar is drawn while the model loads, and taken away" grep -q $'\rloading \[#*\.*\] *[0-9]* % of 3\.[0-9] MB.*\r\x1b\[K' "$work/out"
ok "speed is told" grep -q 'generated 12 in' "$work/out"
terminal "" -p "Once upon a time" -q
ok "-q draws none" same "$(tr -d '\r' <"$work/out")" "Once upon a time$first"
run_in "" "${run[@]}" -p "Once upon a time"
ok "nor is there one where stderr is no terminal" same "$(grep -c loading "$work/err")" 0
terminal $'Once upon a time\n\x04' -q --chat
ok "a chat asks for each line and ends with Ctrl-D" same "$status $(grep -c '^> ' "$work/out")" "0 2" || cat -v "$work/out"
terminal $'\x03Once upon a time\n' -q --chat
ok "Ctrl-C at the question ends it with status 130" same "$status $(grep -c "${first# }" "$work/out")" "130 0"
terminal "$(printf 'a king and a queen %.0s' {1..60})"$'\nOnce upon a time\n\x04' -q --chat
ok "a turn that is too long does not end a chat with somebody" grep -q "${first# }" "$work/out"
ok "who is told of /clear" grep -q 'shorten.*; /clear begins a new one' "$work/out" || cat -v "$work/out"
done_testing

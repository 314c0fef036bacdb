#!/bin/bash
# SPDX-License-Identifier: MIT
# What the tests themselves stand on: the claims of tap.sh, and how run.sh counts them and ends. Prints TAP.
. "$(dirname "$0")/tap.sh"

# script NAME <COMMANDS: a test of tap.sh's kind, $work/NAME.
script() {
	{ echo "#!/bin/bash"; echo ". $PWD/tests/tap.sh"; cat; } >"$work/$1"
	chmod +x "$work/$1"
}

# says TEXT NAME: this is what the test prints.
says() {
	diff <(echo "$1") "$work/$2.out"
}

script mixed <<'END'
ok "true holds" echo "which nobody needs to hear"
ok "false does not" sh -c 'echo "ok 1 - of another"; echo "because of this" >&2; false' || echo "# after"
echo a finding | clean "nothing comes in"
: | clean "nothing came in"
skip "a flight" "no wings"
printf '1..3\nok 1 good\nnot ok 2 - bad\nok 3 - far # SKIP no road\nnot ok 4 # SKIP no name\nwords\n' | adopt "in it: " " (p)"
ok "four were adopted" [ "$adopted" = 4 ]
echo '1..0 # SKIP no bus' | adopt "" ""
ok "the build is where B says, and we are in the root" [ "$b.$(ls tests/tap.sh)" = build.tests/tap.sh ]
done_testing
END
B=build "$work/mixed" >"$work/mixed.out"
status=$?
ok "claims that fail are a status of 1" [ "$status" = 1 ]
ok "claims are numbered, explained, adopted and skipped" says "ok 1 - true holds
not ok 2 - false does not
# because of this
# after
not ok 3 - nothing comes in
# a finding
# findings: 1
ok 4 - nothing came in
ok 5 - a flight # SKIP no wings
# 1..3
ok 6 - in it: good (p)
not ok 7 - in it: bad (p)
ok 8 - in it: far (p) # SKIP no road
ok 9 - in it:  (p) # SKIP no name
# words
ok 10 - four were adopted
ok 11 - all of it # SKIP no bus
ok 12 - the build is where B says, and we are in the root
1..12" mixed

script whole <<<'skip_all "no wings"'
"$work/whole" >"$work/whole.out"
ok "a test may be skipped as a whole" says "1..0 # SKIP no wings" whole
script left <<<'echo "$work"; exit 3'
ok "the folder of a test goes with it" [ ! -e "$("$work/left")" ]

script good <<'END'
skip "a dive" "no water"
skip "a swim" "no water"
skip "a climb" "no wings"
ok "a walk" true
done_testing
END
script dies <<<'ok "it begins" true; kill -9 $$'

# ends N: the last lines of what run.sh said.
ends() {
	diff <(echo "$2") <(tail -n "$1" "$work/run.out")
}
tests/run.sh "$work/good" "$work/whole" >"$work/run.out" 2>&1
status=$?
ok "run.sh succeeds when nothing fails" [ "$status" = 0 ]
ok "it ends with what was skipped, by reason, and the counts" ends 7 "skipped: no water
    ${work#/}/good: a dive
    ${work#/}/good: a swim
skipped: no wings
    ${work#/}/good: a climb
    ${work#/}/whole
1 passed, 0 failed, 4 skipped" || tap_comment <"$work/run.out"
tests/run.sh "$work/mixed" >"$work/run.out" 2>&1
status=$?
ok "run.sh fails when a claim fails" [ "$status" = 1 ]
ok "and says which" grep -q "^not ok 7 - in it: bad (p)" "$work/run.out"
ok "and counts it" ends 1 "5 passed, 3 failed, 4 skipped"
tests/run.sh "$work/dies" >"$work/run.out" 2>&1
ok "a test that dies is a failure" ends 1 "1 passed, 1 failed, 0 skipped"
tests/run.sh nosuchpart >"$work/run.out" 2>&1
status=$?
ok "an unknown part is refused" [ "$status" = 2 ]
ok "by its name" ends 1 "tests/run.sh: no part and no test 'nosuchpart'"
done_testing

#!/bin/bash
# SPDX-License-Identifier: MIT
# The same story with 4-bit weights: another path through the compiler, the strips and the MPE.
WEIGHTS=w4 exec "$(dirname "$0")/story.sh"

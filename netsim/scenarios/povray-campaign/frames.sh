#!/bin/sh
# frames.sh PART SIZE ALL: renders the frames of a part, counted from 1, of an animation of ALL frames.
set -eu
first=$((($1 - 1) * $2 + 1))
last=$(($1 * $2))
exec povray -D -V +WT1 +Iorbit.pov +Oorbit.png +FN +W64 +H48 +KI0 +KF1 +KC \
    +KFI1 "+KFF$3" "+SF$first" "+EF$last"

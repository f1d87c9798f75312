#!/usr/bin/env bash
# From a fresh clone to a stylised captioner: environment, data, training, evaluation, a picture.
#
#   bash launch/quickstart.sh                  about ten minutes on two cores after the download
#   bash launch/quickstart.sh key=value ...    with settings of the run changed
#
# What is done already is not done again; an interrupted training goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0" && exit ;; esac
source launch/setup.sh
set_up "$PWD"

data=data/shapes run=runs/quickstart
"$VENV_PYTHON" launch/prepare.py shapes --out "$data"
if [ ! -e "$run/report.md" ]; then
    if [ -e "$run/config.yaml" ]; then
        "$VENV_PYTHON" launch/train.py "$run" --resume --local "$@"
    else
        "$VENV_PYTHON" launch/train.py configs/attend_gan/quickstart.yaml \
            --local --name quickstart "$@"
    fi
    "$VENV_PYTHON" launch/evaluate.py "$run" --checkpoint style adversarial --controls \
        >"$run/table.txt"
fi
cat "$run/table.txt"
echo "
This was MLE (style) against adversarial training. More:
  $run/report.md                    the table, and where the pictures are
  tensorboard --logdir runs         losses, rewards, captions while training
  python launch/sample.py $run IMAGE --style positive"

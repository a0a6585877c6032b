#!/bin/bash
# A saved student on many slides, as a job array of SLURM: each task maps its share of them.
#
#     sbatch --array=1-16 workflows/slurm_array.sh run/student slides.csv cohort
#
# A task that ran out of time or memory is submitted again with the same line: what is done stays, and what was begun
# goes on. Slides that broke are tried again with --retry-failed at the end of the line.
#SBATCH --job-name=stdistill
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=stdistill-%A-%a.log
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "Usage: sbatch --array=1-N $0 STUDENT SLIDES OUT [OPTION]…" >&2
    exit 2
fi
student=$1 slides=$2 out=$3
shift 3

exec stdistill predict "$student" "$slides" --out "$out" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" --workers 2 --stage "${TMPDIR:-/tmp}" "$@"

#!/usr/bin/env bash
# What this device does in a second: bash benchmarks/device.sh, from an environment that has Simfer installed.
#
# One table in under eight minutes: rows in lanes, training, NUTS with 4 to 1,024 chains as one array, and whole chains.
# Each part is a process of its own and has its time; what does not fit into that is said as such.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

$python benchmarks/device.py name
for part in "lanes-float64 80" "lanes-float32 60" "training 50" "nuts 90" "lotka_volterra 80" "gray_scott 110"; do
    read -r name seconds <<< "$part"
    ended=0
    timeout "$seconds" "$python" benchmarks/device.py "$name" "$seconds" || ended=$?
    if [ "$ended" -eq 124 ]; then
        echo "| $name | | what was left did not fit into $seconds s |"
    elif [ "$ended" -ne 0 ]; then
        echo "| $name | | ended with $ended |"
    fi
done

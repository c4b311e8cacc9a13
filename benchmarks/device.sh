#!/usr/bin/env bash
# What this device does in a second: bash benchmarks/device.sh, from an environment that has Simfer installed.
#
# One table in under eight minutes: rows in lanes, whether they are right, training, NUTS with 4 to 1,024 chains as one
# array, and whole chains. Each part is a process of its own and has its time; what does not fit is said as such.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

$python benchmarks/device.py name
parts=("lanes-float64 65" "agreement 65" "lanes-float32 35" "training 60" "nuts 85" "lotka_volterra 90" "gray_scott 75")
for part in "${parts[@]}"; do
    read -r name seconds <<< "$part"
    ended=0
    timeout -k 5 "$seconds" "$python" benchmarks/device.py "$name" "$seconds" || ended=$?
    if [ "$ended" -eq 124 ] || [ "$ended" -eq 137 ]; then
        echo "| $name | | what was left did not fit into $seconds s |"
    elif [ "$ended" -ne 0 ]; then
        echo "| $name | | ended with $ended |"
    fi
done

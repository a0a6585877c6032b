#!/usr/bin/env bash
# A SLURM of one node on this machine, to try workflows on: Debian's slurm-wlm and munge, on loopback, as root.
#
#     slurm_node.sh start DIR    writes its configuration and state to DIR, starts munged, slurmctld and slurmd
#     slurm_node.sh stop DIR     stops them again
#
# Its configuration is also linked from /etc/slurm/slurm.conf, where jobs look for it; nothing may be there.
set -euo pipefail

command=${1:?start or stop}
dir=$(realpath -m "${2:?a folder for its configuration and state}")
conf=$dir/slurm.conf
usual=/etc/slurm/slurm.conf

stop() {
    for daemon in slurmd slurmctld munged; do
        if [[ -s $dir/$daemon.pid ]]; then
            kill "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
        fi
    done
    if [[ $(readlink "$usual") == "$conf" ]]; then
        rm "$usual"
    fi
}

start() {
    if [[ -e $usual ]]; then
        echo "$usual is there: this machine has a SLURM already." >&2
        return 1
    fi
    mkdir -p "$dir"/{state,spool,log}
    local memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 1024))
    # No accounting and no cgroups, which a container does not have: Snakemake asks squeue.
    cat > "$conf" <<CONF
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=600
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    ln -s "$conf" "$usual"
    [[ -s $dir/munge.key ]] || (umask 077; head -c 1024 /dev/urandom > "$dir/munge.key")
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed"
    slurmctld
    slurmd
    for _ in $(seq 30); do
        if sinfo --noheader --format=%t 2>/dev/null | grep -q idle; then
            sinfo
            return
        fi
        sleep 1
    done
    echo "The node did not come up in 30 s; see $dir/log." >&2
    stop
    return 1
}

"$command"

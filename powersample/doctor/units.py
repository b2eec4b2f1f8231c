# SPDX-License-Identifier: Apache-2.0
"""Two texts for an administrator, who reads them before they are put in place: a udev rule and a systemd unit.

Both give the processors' energy counters to the group `powersample` and to nobody else. The kernel keeps them from
everybody but root since CVE-2020-8694, because they tell what other programs compute (PLATYPUS): a group of people
who measure is a smaller hole than the world, and than a shell as root.
"""

UDEV_RULE = """\
# Energy counters of the processors for the group "powersample" (mode 0440 in place of 0400, see CVE-2020-8694).
# Members can watch what other programs do through power: add people who measure, not everybody.
#
#   powersample doctor --print-udev | sudo tee /etc/udev/rules.d/70-powersample.rules
#   sudo groupadd -f -r powersample && sudo usermod -aG powersample "$USER"      (then log in again)
#   sudo udevadm control --reload && sudo udevadm trigger --action=add --subsystem-match=powercap

# Powercap zones have no device node, so MODE= and GROUP= would do nothing: the files in sysfs are changed by hand.
ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", TEST=="energy_uj", \
RUN+="/bin/sh -c 'chgrp powersample /sys%p/energy_uj && chmod 0440 /sys%p/energy_uj'"

# MSRs need CAP_SYS_RAWIO besides: this alone lets nobody in, and spares the sampler cap_dac_read_search.
ACTION=="add", SUBSYSTEM=="msr", KERNEL=="msr[0-9]*", GROUP="powersample", MODE="0440"
"""

SYSTEMD_UNIT = """\
# Energy counters of the processors for the group "powersample" at every boot, where the udev rule has no effect because
# the powercap devices announce themselves before udev runs, or not at all.
#
#   powersample doctor --print-systemd | sudo tee /etc/systemd/system/powersample-powercap.service
#   sudo groupadd -f -r powersample && sudo usermod -aG powersample "$USER"      (then log in again)
#   sudo systemctl daemon-reload && sudo systemctl enable --now powersample-powercap.service

[Unit]
Description=Processor energy counters for the group powersample
After=systemd-modules-load.service systemd-udev-trigger.service
ConditionPathExistsGlob=/sys/class/powercap/intel-rapl:*/energy_uj

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for file in /sys/class/powercap/intel-rapl:*/energy_uj; do \
chgrp powersample "$$file" && chmod 0440 "$$file" || exit 1; done'

# It may change the group of files in /sys, and nothing else. ProtectKernelTunables would make /sys read-only.
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=none
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077

[Install]
WantedBy=multi-user.target
"""

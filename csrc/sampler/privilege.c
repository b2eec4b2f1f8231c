/* SPDX-License-Identifier: Apache-2.0
 *
 * See privilege.h. The kernel's own calls, which act on the calling thread: there is only one as yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sampler/privilege.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38 /* Linux 5.8 */
#endif

static const struct {
    int number;
    const char *name;
} useful[] = {
    {CAP_PERFMON, "cap_perfmon"},                 /* perf's counters */
    {CAP_SYS_ADMIN, "cap_sys_admin"},             /* the same before there was that */
    {CAP_DAC_READ_SEARCH, "cap_dac_read_search"}, /* powercap's files, and the nodes of the MSRs */
    {CAP_SYS_RAWIO, "cap_sys_rawio"},             /* the MSRs themselves */
    {CAP_SYS_NICE, "cap_sys_nice"},               /* SCHED_FIFO */
};

enum { N_USEFUL = sizeof useful / sizeof useful[0] };

typedef struct sets {
    uint64_t permitted, effective, inheritable;
} sets;

static int get_sets(sets *out)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &head, data) != 0)
        return errno;
    out->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    out->effective = data[0].effective | (uint64_t)data[1].effective << 32;
    out->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    return 0;
}

/* None is inheritable, and so the kernel leaves none ambient. */
static int set_sets(uint64_t permitted, uint64_t effective)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {.permitted = (uint32_t)permitted, .effective = (uint32_t)effective},
        {.permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32)},
    };
    return syscall(SYS_capset, &head, data) == 0 ? 0 : errno;
}

static bool fail(const char *what, int code)
{
    fprintf(stderr, "powersample-sampler: privileges: %s: %s (code %d). Nothing was opened for you.\n", what,
            strerror(code), code);
    return false;
}

static bool open_missing_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool ids_are_real(void)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;
    return getresuid(&ruid, &euid, &suid) == 0 && getresgid(&rgid, &egid, &sgid) == 0 && ruid == euid &&
           ruid == suid && rgid == egid && rgid == sgid;
}

/* No core and no ptrace: who may look into this process may take its descriptors. */
static int hide(void)
{
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : errno;
}

/* A set-user-ID program's rights beyond capabilities go now, its capabilities stay for the moment. */
static int become_caller(void)
{
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return errno;
    if (setresgid(getgid(), getgid(), getgid()) != 0 || setresuid(getuid(), getuid(), getuid()) != 0)
        return errno;
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
        return errno;
    return hide(); /* other ids ask fs.suid_dumpable once more */
}

bool privilege_begin(sampler_privilege *out)
{
    *out = (sampler_privilege){.secure = getauxval(AT_SECURE) != 0};
    if (!open_missing_descriptors())
        return fail("/dev/null", errno);
    if (!out->secure)
        return true;

    /* The kernel's own answer to file capabilities, unless fs.suid_dumpable says otherwise. */
    int code = hide();
    if (code)
        return fail("prctl(PR_SET_DUMPABLE)", code);
    /* Only who has CAP_SETPCAP may, such as set-user-ID root; for others PR_SET_NO_NEW_PRIVS has the same effect. */
    for (unsigned long number = 0; prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0;)
        number++;
    code = become_caller();
    if (code)
        return fail("setresuid", code);
    sets now;
    code = get_sets(&now);
    if (code)
        return fail("capget", code);
    for (int i = 0; i < N_USEFUL; i++)
        out->got |= now.permitted & UINT64_C(1) << useful[i].number;
    code = set_sets(out->got, 0);
    if (code)
        return fail("capset", code);
    code = get_sets(&now);
    if (code || now.permitted != out->got || now.effective || now.inheritable || !ids_are_real())
        return fail("more than was asked for is left", code ? code : EPERM);
    out->held = out->got != 0;
    return true;
}

bool privilege_use(const sampler_privilege *self)
{
    (void)clearenv();
    int code = set_sets(self->got, self->got);
    return code ? fail("capset", code) : true;
}

bool privilege_drop(sampler_privilege *self)
{
    int code = set_sets(0, 0);
    if (code)
        return fail("capset", code);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail("prctl(PR_SET_NO_NEW_PRIVS)", errno);
    sets now;
    code = get_sets(&now);
    if (code || now.permitted || now.effective || now.inheritable || !ids_are_real() ||
        prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return fail("not all of them could be given up", code ? code : EPERM);
    self->held = false;
    return true;
}

void privilege_names(uint64_t set, char out[PRIVILEGE_NAMES])
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < N_USEFUL; i++)
        if (set >> useful[i].number & 1)
            used += (size_t)snprintf(out + used, PRIVILEGE_NAMES - used, "%s%s", used ? "," : "", useful[i].name);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding and loading libnvidia-ml. It comes with the driver, so it is never linked, and not even loaded without a sign
 * of a driver: the real one takes milliseconds to find out and, run by root, leaves a device node behind.
 */
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sources/nvml_lib.h"

#if defined(__x86_64__)
enum { OWN_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { OWN_MACHINE = EM_AARCH64 };
#else
#error "of which machine is this program? Add it here."
#endif

static const char *machine_name(unsigned machine)
{
    return machine == EM_X86_64    ? "x86-64"
           : machine == EM_AARCH64 ? "aarch64"
           : machine == EM_386     ? "i386"
           : machine == EM_PPC64   ? "ppc64"
                                   : NULL;
}

static int driver_in_sight(void)
{
    static const char *const signs[] = {
        "/sys/module/nvidia", "/dev/nvidiactl",                /* the driver; inside a container */
        "/dev/dxg",                                            /* Windows' Linux */
        "/dev/nvhost-ctrl",   "/dev/nvhost-gpu", "/dev/nvmap", /* Tegra */
    };
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (access(signs[i], F_OK) == 0)
            return 1;
    return 0;
}

/* The loader passes over a library of another machine and says that there is no such file. True, with *error filled, if
 * that is what `path` is. */
static bool is_foreign(const char *path, ps_error *error)
{
    unsigned char head[EI_NIDENT + 4]; /* up to e_machine */
    int fd = strchr(path, '/') ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t bytes = read(fd, head, sizeof head);
    close(fd);
    if (bytes != (ssize_t)sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0)
        return false;
    bool big = head[EI_DATA] == ELFDATA2MSB;
    unsigned machine = big ? (unsigned)head[18] << 8 | head[19] : (unsigned)head[19] << 8 | head[18];
    if (machine == OWN_MACHINE)
        return false;
    char number[24];
    const char *name = machine_name(machine);
    snprintf(number, sizeof number, "machine %u", machine);
    ps_fail(error, PS_E_NOT_FOUND, 0, "ps_nvml_open", "%s is a library for %s and this program is for %s", path,
            name ? name : number, machine_name(OWN_MACHINE));
    return true;
}

int nvml_load(const char *asked, void **library, char *name, size_t name_size, ps_error *error)
{
    const char *candidates[2] = {asked, NULL};
    if (!asked) {
        if (!driver_in_sight())
            return ps_fail(error, PS_E_NOT_FOUND, 0, "ps_nvml_open",
                           "no sign of an NVIDIA driver (/sys/module/nvidia, /dev/nvidiactl, /dev/dxg, Tegra's "
                           "/dev/nvhost-*)");
        candidates[0] = "libnvidia-ml.so.1";
        candidates[1] = "/usr/lib/wsl/lib/libnvidia-ml.so.1";
    }
    for (size_t i = 0; i < 2 && candidates[i]; i++) {
        snprintf(name, name_size, "%s", candidates[i]);
        *library = dlopen(candidates[i], RTLD_NOW | RTLD_LOCAL);
        if (*library)
            return PS_OK;
        const char *reason = dlerror();
        if (i == 0 && !is_foreign(candidates[i], error))
            (void)ps_fail(error, PS_E_NOT_FOUND, 0, "dlopen", "%s", reason ? reason : candidates[i]);
    }
    return PS_E_NOT_FOUND;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Energy from the processor's registers by /dev/cpu/N/msr: eight bytes a read, of which the low 32 bits count. A read
 * from another package interrupts a CPU of this one, so the lane belongs on the CPU whose node is read.
 *
 * AMD's core counters are one a core. They make one channel, as Intel's: their sum, which modulo 2^32 is a counter as
 * each of them is. Reading it interrupts every core of the package, so it is not read more than ten times a second.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "sources/rapl.h"

#define CORES_MAX_HZ 10.0

enum { PLAIN_STRIDE = 8 }; /* bytes a register in a plain file, where neighbours would overlap */

/* A node that is kept open, of any CPU that sees the register. */
typedef struct port {
    uint32_t die, core;  /* UINT32_MAX: any */
    uint32_t probe;      /* a register that must answer */
    int32_t cpu;
    int fd; /* -1 while none can be opened */
    off_t stride;
    uint16_t status; /* of the last read, or of opening */
} port;

/* A channel: one register at one port, or the sum of it at several. */
typedef struct counter {
    int domain;
    uint32_t number;
    uint32_t first, n; /* ports */
} counter;

typedef struct msr {
    ps_source base; /* first */
    counter counters[RAPL_CHANNELS_MAX];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[RAPL_CHANNELS_MAX];
    port *ports;
    rapl_cpu *cpus; /* of the package */
    uint32_t n_ports, n_cpus;
    char devfs[PATH_MAX / 2];
    backoff again;
} msr;

/* ---- reading ---- */

static uint16_t read_register(const port *one, uint32_t number, uint64_t *word)
{
    if (one->fd < 0)
        return one->status;
    ssize_t got;
    do
        got = pread(one->fd, word, sizeof *word, (off_t)number * one->stride);
    while (got < 0 && errno == EINTR);
    return got < 0 ? (uint16_t)errno : got == (ssize_t)sizeof *word ? 0 : ENODATA;
}

/* A sum without one of its parts would be a counter that fell back: then there is none. */
static uint16_t read_counter(msr *self, const counter *one, int64_t *out)
{
    uint32_t sum = 0;
    uint16_t failure = 0;
    for (port *at = &self->ports[one->first]; at < &self->ports[one->first + one->n]; at++) {
        uint64_t word = 0;
        uint16_t status = read_register(at, one->number, &word);
        if (status)
            at->status = failure = status;
        sum += (uint32_t)word;
    }
    *out = failure ? 0 : (int64_t)sum;
    return failure;
}

static uint32_t msr_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    msr *self = (msr *)source;
    out->channel = (uint16_t)group;
    out->status = read_counter(self, &self->counters[group], &out->raw);
    return 1;
}

/* ---- ports ---- */

static bool open_node(const msr *self, port *one, int32_t cpu)
{
    char path[PATH_MAX];
    struct stat status;
    uint64_t word;
    snprintf(path, sizeof path, "%s/cpu/%d/msr", self->devfs, cpu);
    one->fd = open(path, O_RDONLY | O_CLOEXEC);
    one->status = one->fd < 0 ? (uint16_t)errno : 0;
    if (one->fd < 0)
        return false;
    one->stride = fstat(one->fd, &status) == 0 && S_ISREG(status.st_mode) ? PLAIN_STRIDE : 1;
    one->status = read_register(one, one->probe, &word);
    if (one->status) {
        close(one->fd);
        one->fd = -1;
    }
    one->cpu = cpu;
    return one->status == 0;
}

/* Opens the node of the first CPU that answers for the port; one that was taken offline gives way to a sibling. */
static bool open_port(const msr *self, port *one)
{
    uint16_t first = 0;
    if (one->fd >= 0)
        close(one->fd);
    one->fd = -1;
    for (const rapl_cpu *cpu = self->cpus; cpu < self->cpus + self->n_cpus; cpu++) {
        if ((one->die != UINT32_MAX && one->die != cpu->die) || (one->core != UINT32_MAX && one->core != cpu->core))
            continue;
        if (open_node(self, one, cpu->cpu))
            return true;
        if (!first)
            first = one->status;
    }
    one->status = first ? first : ENODEV;
    return false;
}

static int msr_recover(ps_source *source, int64_t now_ns)
{
    msr *self = (msr *)source;
    if (!backoff_due(&self->again, now_ns))
        return 0;
    bool back = false, away = false;
    for (port *one = self->ports; one < self->ports + self->n_ports; one++) {
        if (!one->status)
            continue;
        bool opened = open_port(self, one);
        back |= opened;
        away |= !opened;
    }
    backoff_tried(&self->again, now_ns, away);
    return back;
}

static void msr_free(ps_source *source)
{
    msr *self = (msr *)source;
    for (uint32_t i = 0; i < self->n_ports; i++)
        if (self->ports[i].fd >= 0)
            close(self->ports[i].fd);
    free(self->ports);
    free(self->cpus);
    free(self);
}

static const struct ps_source_ops msr_ops = {.read = msr_read, .recover = msr_recover, .free = msr_free};

/* ---- which packages ---- */

static void msr_packages(const rapl_machine *machine, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count)
{
    uint32_t n = 0;
    rapl_cpu *cpus = machine->model && machine->devfs ? rapl_topology(machine->sysfs, &n) : NULL;
    for (uint32_t i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/cpu/%d/msr", machine->devfs, cpus[i].cpu) < (int)sizeof path &&
            access(path, F_OK) == 0)
            rapl_add_package(list, count, cpus[i].package);
    }
    free(cpus);
}

/* ---- making the source ---- */

static void add_port(msr *self, uint32_t die, uint32_t core, uint32_t probe)
{
    self->ports[self->n_ports++] = (port){.die = die, .core = core, .probe = probe, .cpu = -1, .fd = -1};
}

/* One port a die, or one for the package. Returns how many. */
static uint32_t add_dies(msr *self, const rapl_machine *machine)
{
    const uint32_t probe = rapl_unit_register(machine->model);
    if (machine->per_package) {
        add_port(self, UINT32_MAX, UINT32_MAX, probe);
        return 1;
    }
    for (uint32_t i = 0; i < self->n_cpus && self->n_ports < RAPL_DIES_MAX; i++) {
        bool known = false;
        for (uint32_t j = 0; j < self->n_ports; j++)
            known |= self->ports[j].die == self->cpus[i].die;
        if (!known)
            add_port(self, self->cpus[i].die, UINT32_MAX, probe);
    }
    return self->n_ports;
}

/* One port a core: threads of a core show the same counter. Returns how many; 0 when the topology does not tell. */
static uint32_t add_cores(msr *self, uint32_t number)
{
    const uint32_t first = self->n_ports;
    for (uint32_t i = 0; i < self->n_cpus; i++) {
        bool known = false;
        if (self->cpus[i].core == UINT32_MAX) {
            self->n_ports = first;
            return 0;
        }
        for (uint32_t j = first; j < self->n_ports; j++)
            known |= self->ports[j].die == self->cpus[i].die && self->ports[j].core == self->cpus[i].core;
        if (!known)
            add_port(self, self->cpus[i].die, self->cpus[i].core, number);
    }
    return self->n_ports - first;
}

static void add_counter(msr *self, const counter *made, const char *place, double unit_j)
{
    uint32_t at = self->base.n_channels++;
    self->base.n_groups++;
    self->counters[at] = *made;
    char sensor[32];
    snprintf(sensor, sizeof sensor, "0x%X", made->number);
    ps_channel *channel = &self->channels[at];
    rapl_describe(channel, place, made->domain, "msr", sensor);
    channel->scale = unit_j;
    channel->modulus = RAPL_MSR_MODULUS;
    channel->group = at;
    self->groups[at] = (ps_group){.max_hz = made->n > 1 ? CORES_MAX_HZ : RAPL_MAX_HZ,
                                  .min_hz = rapl_min_hz((double)RAPL_MSR_MODULUS * unit_j,
                                                        rapl_most_watts(made->domain)),
                                  .divisor = 1};
}

/* Why a counter's register cannot be read, at the port where that is so. */
static void refuse_register(const msr *self, const counter *one, uint16_t status, rapl_part *out)
{
    const port *at = &self->ports[one->first];
    for (uint32_t i = one->first; i < one->first + one->n; i++)
        if (self->ports[i].status)
            at = &self->ports[i];
    bool absent = status == EIO; /* what the kernel makes of the processor's fault */
    rapl_refuse(out, 1u << one->domain, absent ? PS_E_UNSUPPORTED : ps_errno_status(status), status, "pread",
                "register 0x%X of CPU %d: %s", one->number, at->cpu,
                absent ? "this processor has none" : strerror(status));
}

/* Adds a counter if its unit and its registers answer. */
static bool add_if_it_answers(msr *self, const rapl_machine *machine, const counter *made, const port *units,
                              const char *place, rapl_part *out)
{
    const uint32_t number = rapl_unit_register(machine->model);
    uint64_t word = 0;
    double unit_j;
    int64_t raw;
    uint16_t status = read_register(units, number, &word);
    if (status == 0 && !rapl_unit(machine->model, made->domain, word, &unit_j)) {
        rapl_refuse(out, 1u << made->domain, PS_E_FORMAT, EBADMSG, "pread",
                    "register 0x%X of CPU %d holds 0x%llX, which is no unit", number, units->cpu,
                    (unsigned long long)word);
        return false;
    }
    if (status == 0)
        status = read_counter(self, made, &raw);
    if (status)
        refuse_register(self, made, status, out);
    else
        add_counter(self, made, place, unit_j);
    return status == 0;
}

static void forget_ports(msr *self, uint32_t from)
{
    while (self->n_ports > from)
        if (self->ports[--self->n_ports].fd >= 0)
            close(self->ports[self->n_ports].fd);
}

static bool add_sum_of_cores(msr *self, const rapl_machine *machine, uint32_t package, rapl_part *out)
{
    counter made = {.domain = PS_RAPL_CORE,
                    .number = rapl_register(machine->model, PS_RAPL_CORE),
                    .first = self->n_ports};
    char place[48];
    rapl_name_place(place, package, 0, 1);
    made.n = add_cores(self, made.number);
    for (uint32_t i = made.first; i < self->n_ports; i++)
        (void)open_port(self, &self->ports[i]);
    if (!made.n)
        rapl_refuse(out, 1u << PS_RAPL_CORE, PS_E_UNSUPPORTED, 0, "topology",
                    "it does not tell which CPUs of package-%u share a core", package);
    else if (add_if_it_answers(self, machine, &made, &self->ports[0], place, out))
        return true;
    forget_ports(self, made.first);
    return false;
}

/* Adds a domain on all dies, or on none. */
static bool add_domain(msr *self, const rapl_machine *machine, uint32_t package, uint32_t n_dies, int domain,
                       rapl_part *out)
{
    if (machine->per_package && domain == PS_RAPL_CORE)
        return add_sum_of_cores(self, machine, package, out);
    counter made = {.domain = domain, .number = rapl_register(machine->model, domain), .n = 1};
    const uint32_t before = self->base.n_channels;
    for (; made.first < (domain == PS_RAPL_PSYS ? 1 : n_dies); made.first++) {
        port *at = &self->ports[made.first];
        char place[48];
        rapl_name_place(place, package, at->die, n_dies);
        if (!add_if_it_answers(self, machine, &made, at, place, out)) {
            at->status = 0; /* a register that is not there is no trouble with the port */
            self->base.n_channels = self->base.n_groups = before;
            return false;
        }
    }
    return true;
}

/* Fills cpus and makes room for ports. Returns false when the package has no CPU, or memory is refused. */
static bool find_cpus(msr *self, const rapl_machine *machine, uint32_t package)
{
    uint32_t n = 0;
    self->cpus = rapl_topology(machine->sysfs, &n);
    for (uint32_t i = 0; i < n; i++)
        if (self->cpus[i].package == package)
            self->cpus[self->n_cpus++] = self->cpus[i];
    self->ports = self->n_cpus ? calloc(RAPL_DIES_MAX + self->n_cpus, sizeof *self->ports) : NULL;
    return self->ports != NULL;
}

static void open_package(msr *self, const rapl_machine *machine, uint32_t package, uint32_t wanted, rapl_part *out)
{
    if (!find_cpus(self, machine, package)) {
        rapl_refuse(out, wanted, PS_E_NOT_FOUND, 0, "topology", "%.100s/devices/system/cpu shows no CPU of package-%u",
                    machine->sysfs, package);
        return;
    }
    const uint32_t n_dies = add_dies(self, machine);
    for (uint32_t i = 0; i < n_dies; i++)
        if (!open_port(self, &self->ports[i])) {
            int code = self->ports[i].status;
            rapl_refuse(out, wanted, ps_errno_status(code), code, "open", "%.100s/cpu/%d/msr: %s%s", self->devfs,
                        self->cpus[0].cpu, strerror(code), code == ENOENT ? " (is the module msr loaded?)" : "");
            return;
        }
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if ((wanted & 1u << domain) && add_domain(self, machine, package, n_dies, domain, out))
            out->domains |= 1u << domain;
    out->cpu = self->ports[0].cpu;
}

static void msr_open(const rapl_machine *machine, uint32_t package, uint32_t wanted, rapl_part *out)
{
    if (!machine->devfs) {
        rapl_refuse(out, wanted, PS_E_NOT_FOUND, 0, "msr", "beside a sysfs of one's own a devfs must be named, too");
        return;
    }
    if (!machine->model) {
        rapl_refuse(out, wanted, PS_E_UNSUPPORTED, 0, "msr", "the units of this processor's registers are not known");
        return;
    }
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if ((wanted & 1u << domain) && !rapl_has(machine->model, domain)) {
            rapl_refuse(out, 1u << domain, PS_E_NOT_FOUND, 0, "msr", "this processor has no register for %s",
                        rapl_domain_name(domain));
            wanted &= ~(1u << domain);
        }
    msr *self = wanted ? calloc(1, sizeof *self) : NULL;
    if (!self) {
        rapl_refuse(out, wanted, PS_E_NOMEM, 0, "malloc", "package-%u", package);
        return;
    }
    self->base = (ps_source){.ops = &msr_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    snprintf(self->base.name, sizeof self->base.name, "rapl:package-%u", package);
    if (snprintf(self->devfs, sizeof self->devfs, "%s", machine->devfs) < (int)sizeof self->devfs)
        open_package(self, machine, package, wanted, out);
    else
        rapl_refuse(out, wanted, PS_E_INVALID, ENAMETOOLONG, "open", "%.100s", machine->devfs);
    if (out->domains)
        out->source = &self->base;
    else
        msr_free(&self->base);
}

const rapl_route rapl_msr = {.packages = msr_packages, .open = msr_open};

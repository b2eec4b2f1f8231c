/* SPDX-License-Identifier: Apache-2.0
 *
 * See rapl_decode.h. Sources of the tables: Intel SDM volume 4 (registers, units); AMD PPR of family 17h and later
 * (0xC0010299 and the two after it); Linux: arch/x86/events/rapl.c and drivers/powercap/intel_rapl_common.c (units),
 * tools/power/x86/turbostat (which register exists where); likwid and raplcap for what those leave open. Where sources
 * contradict each other about a unit, the model is left out, for a unit that is wrong is a wrong number of joules.
 */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "sources/rapl_decode.h"

enum {
    PKG = 1 << PS_RAPL_PACKAGE,
    PP0 = 1 << PS_RAPL_CORE,
    PP1 = 1 << PS_RAPL_UNCORE,
    RAM = 1 << PS_RAPL_DRAM,
    SYS = 1 << PS_RAPL_PSYS,
    CLIENT = PKG | PP0 | PP1 | RAM, /* from Haswell; a part without one of them answers EIO */
    SKYLAKE = CLIENT | SYS
};

static const rapl_model models[] = {
    {RAPL_INTEL, 6, 0x2A, PKG | PP0 | PP1, RAPL_RULE_STANDARD}, /* Sandy Bridge */
    {RAPL_INTEL, 6, 0x3A, PKG | PP0 | PP1, RAPL_RULE_STANDARD}, /* Ivy Bridge */
    {RAPL_INTEL, 6, 0x2D, PKG | PP0 | RAM, RAPL_RULE_STANDARD}, /* Sandy Bridge-EP */
    {RAPL_INTEL, 6, 0x3E, PKG | PP0 | RAM, RAPL_RULE_STANDARD}, /* Ivy Bridge-EP */
    {RAPL_INTEL, 6, 0x3C, CLIENT, RAPL_RULE_STANDARD},          /* Haswell */
    {RAPL_INTEL, 6, 0x45, CLIENT, RAPL_RULE_STANDARD},          /* Haswell-L */
    {RAPL_INTEL, 6, 0x46, CLIENT, RAPL_RULE_STANDARD},          /* Haswell-G */
    {RAPL_INTEL, 6, 0x3D, CLIENT, RAPL_RULE_STANDARD},          /* Broadwell */
    {RAPL_INTEL, 6, 0x47, CLIENT, RAPL_RULE_STANDARD},          /* Broadwell-G */
    {RAPL_INTEL, 6, 0x4E, SKYLAKE, RAPL_RULE_STANDARD},         /* Skylake-L */
    {RAPL_INTEL, 6, 0x5E, SKYLAKE, RAPL_RULE_STANDARD},         /* Skylake */
    {RAPL_INTEL, 6, 0x8E, SKYLAKE, RAPL_RULE_STANDARD},         /* Kaby Lake-L */
    {RAPL_INTEL, 6, 0x9E, SKYLAKE, RAPL_RULE_STANDARD},         /* Kaby Lake, Coffee Lake */
    {RAPL_INTEL, 6, 0x66, SKYLAKE, RAPL_RULE_STANDARD},         /* Cannon Lake-L */
    {RAPL_INTEL, 6, 0xA5, SKYLAKE, RAPL_RULE_STANDARD},         /* Comet Lake */
    {RAPL_INTEL, 6, 0xA6, SKYLAKE, RAPL_RULE_STANDARD},         /* Comet Lake-L */
    {RAPL_INTEL, 6, 0x7D, SKYLAKE, RAPL_RULE_STANDARD},         /* Ice Lake */
    {RAPL_INTEL, 6, 0x7E, SKYLAKE, RAPL_RULE_STANDARD},         /* Ice Lake-L */
    {RAPL_INTEL, 6, 0x8C, SKYLAKE, RAPL_RULE_STANDARD},         /* Tiger Lake-L */
    {RAPL_INTEL, 6, 0x8D, SKYLAKE, RAPL_RULE_STANDARD},         /* Tiger Lake */
    {RAPL_INTEL, 6, 0xA7, SKYLAKE, RAPL_RULE_STANDARD},         /* Rocket Lake */
    {RAPL_INTEL, 6, 0x8A, SKYLAKE, RAPL_RULE_STANDARD},         /* Lakefield */
    {RAPL_INTEL, 6, 0x97, SKYLAKE, RAPL_RULE_STANDARD},         /* Alder Lake */
    {RAPL_INTEL, 6, 0x9A, SKYLAKE, RAPL_RULE_STANDARD},         /* Alder Lake-L */
    {RAPL_INTEL, 6, 0xBE, SKYLAKE, RAPL_RULE_STANDARD},         /* Gracemont, Alder Lake-N */
    {RAPL_INTEL, 6, 0xB7, SKYLAKE, RAPL_RULE_STANDARD},         /* Raptor Lake */
    {RAPL_INTEL, 6, 0xBA, SKYLAKE, RAPL_RULE_STANDARD},         /* Raptor Lake-P */
    {RAPL_INTEL, 6, 0xBF, SKYLAKE, RAPL_RULE_STANDARD},         /* Raptor Lake-S */
    {RAPL_INTEL, 6, 0xAC, SKYLAKE, RAPL_RULE_STANDARD},         /* Meteor Lake */
    {RAPL_INTEL, 6, 0xAA, SKYLAKE, RAPL_RULE_STANDARD},         /* Meteor Lake-L */
    {RAPL_INTEL, 6, 0xC5, SKYLAKE, RAPL_RULE_STANDARD},         /* Arrow Lake-H */
    {RAPL_INTEL, 6, 0xC6, SKYLAKE, RAPL_RULE_STANDARD},         /* Arrow Lake */
    {RAPL_INTEL, 6, 0xB5, SKYLAKE, RAPL_RULE_STANDARD},         /* Arrow Lake-U */
    {RAPL_INTEL, 6, 0xBD, SKYLAKE, RAPL_RULE_STANDARD},         /* Lunar Lake-M */

    {RAPL_INTEL, 6, 0x3F, PKG | RAM, RAPL_RULE_SERVER},       /* Haswell-EP */
    {RAPL_INTEL, 6, 0x4F, PKG | RAM, RAPL_RULE_SERVER},       /* Broadwell-EP */
    {RAPL_INTEL, 6, 0x56, PKG | RAM, RAPL_RULE_SERVER},       /* Broadwell-D */
    {RAPL_INTEL, 6, 0x55, PKG | RAM, RAPL_RULE_SERVER},       /* Skylake-SP, Cascade Lake, Cooper Lake */
    {RAPL_INTEL, 6, 0x6A, PKG | RAM | SYS, RAPL_RULE_SERVER}, /* Ice Lake-SP */
    {RAPL_INTEL, 6, 0x6C, PKG | RAM | SYS, RAPL_RULE_SERVER}, /* Ice Lake-D */
    {RAPL_INTEL, 6, 0x57, PKG | RAM, RAPL_RULE_SERVER},       /* Knights Landing */
    {RAPL_INTEL, 6, 0x85, PKG | RAM, RAPL_RULE_SERVER},       /* Knights Mill */

    {RAPL_INTEL, 6, 0x8F, PKG | RAM | SYS, RAPL_RULE_RAPIDS}, /* Sapphire Rapids */
    {RAPL_INTEL, 6, 0xCF, PKG | RAM | SYS, RAPL_RULE_RAPIDS}, /* Emerald Rapids */
    {RAPL_INTEL, 6, 0xAD, PKG | RAM | SYS, RAPL_RULE_RAPIDS}, /* Granite Rapids (likwid, turbostat) */
    {RAPL_INTEL, 6, 0xAE, PKG | RAM | SYS, RAPL_RULE_RAPIDS}, /* Granite Rapids-D (turbostat) */
    /* Sierra Forest: likwid gives its psys 1 J, turbostat 2^-ESU J. Without it until somebody has measured. */
    {RAPL_INTEL, 6, 0xAF, PKG | RAM, RAPL_RULE_RAPIDS},

    /* Not here: Airmont (4CH) and Avoton (4DH), of which one source says this rule and another the standard one. */
    {RAPL_INTEL, 6, 0x37, PKG | PP0, RAPL_RULE_ATOM}, /* Silvermont: Bay Trail */
    {RAPL_INTEL, 6, 0x4A, PKG | PP0, RAPL_RULE_ATOM}, /* Silvermont: Merrifield */
    {RAPL_INTEL, 6, 0x5A, PKG | PP0, RAPL_RULE_ATOM}, /* Airmont-MID: Moorefield */
    {RAPL_INTEL, 6, 0x5D, PKG | PP0, RAPL_RULE_ATOM}, /* SoFIA */

    {RAPL_INTEL, 6, 0x5C, CLIENT, RAPL_RULE_STANDARD},          /* Goldmont */
    {RAPL_INTEL, 6, 0x7A, CLIENT, RAPL_RULE_STANDARD},          /* Goldmont Plus */
    {RAPL_INTEL, 6, 0x5F, PKG | PP0 | RAM, RAPL_RULE_STANDARD}, /* Goldmont-D: Denverton */
    {RAPL_INTEL, 6, 0x96, CLIENT, RAPL_RULE_STANDARD},          /* Tremont: Elkhart Lake */
    {RAPL_INTEL, 6, 0x9C, CLIENT, RAPL_RULE_STANDARD},          /* Tremont-L: Jasper Lake */
    {RAPL_INTEL, 6, 0x86, PKG, RAPL_RULE_STANDARD},             /* Tremont-D */

    {RAPL_AMD, 0x17, RAPL_ANY_MODEL, PKG | PP0, RAPL_RULE_STANDARD},   /* Zen and later; turbostat: family 17h on */
    {RAPL_HYGON, 0x18, RAPL_ANY_MODEL, PKG | PP0, RAPL_RULE_STANDARD}, /* Zen under licence */
};

static const struct {
    const char *name;
    uint32_t intel, amd; /* energy status registers; 0: there is none */
    double most_w;       /* of a package, a node's memory, a whole node */
} table[PS_RAPL_DOMAINS] = {
    [PS_RAPL_PACKAGE] = {"package", 0x611, 0xC001029B, 1000},
    [PS_RAPL_CORE] = {"core", 0x639, 0xC001029A, 1000},
    [PS_RAPL_UNCORE] = {"uncore", 0x641, 0, 500},
    [PS_RAPL_DRAM] = {"dram", 0x619, 0, 300},
    [PS_RAPL_PSYS] = {"psys", 0x64D, 0, 2000},
};

static bool is_domain(int domain)
{
    return domain >= 0 && domain < PS_RAPL_DOMAINS;
}

bool rapl_parse_processor(const char *modalias, rapl_processor *out)
{
    rapl_processor found;
    if (sscanf(modalias, "cpu:type:x86,ven%4xfam%4xmod%4x", &found.vendor, &found.family, &found.model) != 3)
        return false;
    *out = found;
    return true;
}

const rapl_model *rapl_find_model(const rapl_processor *processor)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const rapl_model *one = &models[i];
        bool matches = one->model == RAPL_ANY_MODEL
                           ? processor->family >= one->family
                           : processor->family == one->family && processor->model == one->model;
        if (one->vendor == processor->vendor && matches)
            return one;
    }
    return NULL;
}

bool rapl_has(const rapl_model *model, int domain)
{
    return is_domain(domain) && (model->domains & 1u << domain);
}

static bool is_intel(const rapl_model *model)
{
    return model->vendor == RAPL_INTEL;
}

uint32_t rapl_unit_register(const rapl_model *model)
{
    return is_intel(model) ? 0x606 : 0xC0010299;
}

uint32_t rapl_register(const rapl_model *model, int domain)
{
    if (!rapl_has(model, domain))
        return 0;
    return is_intel(model) ? table[domain].intel : table[domain].amd;
}

bool rapl_unit(const rapl_model *model, int domain, uint64_t word, double *joules)
{
    /* Power unit 3:0, energy unit (ESU) 12:8, time unit 19:16, all else reserved. Hypervisors answer 0, a bus that
     * nobody drives answers ones. */
    const uint64_t fields = 0xF1F0F;
    if (!rapl_has(model, domain) || word == 0 || (word & ~fields))
        return false;
    int esu = (int)(word >> 8 & 0x1F);
    double unit_j = model->rule == RAPL_RULE_ATOM ? ldexp(1e-6, esu) : ldexp(1, -esu);
    /* Real ones lie between 2^-18 and 2^-10 J: beyond these, the field is not what is taken for it. */
    if (unit_j < 1e-7 || unit_j > 1e-2)
        return false;
    if (domain == PS_RAPL_DRAM && model->rule == RAPL_RULE_SERVER)
        unit_j = ldexp(1, -16);
    else if (domain == PS_RAPL_DRAM && model->rule == RAPL_RULE_RAPIDS)
        unit_j = ldexp(1, -14);
    else if (domain == PS_RAPL_PSYS && model->rule == RAPL_RULE_RAPIDS)
        unit_j = 1;
    *joules = unit_j;
    return true;
}

bool rapl_counts_per_package(const rapl_processor *processor)
{
    return processor->vendor == RAPL_AMD || processor->vendor == RAPL_HYGON;
}

/* The kernel (drivers/powercap/intel_rapl_common.c) shows floor(raw * u / 1000) of a 32-bit raw, u being the unit in
 * whole nJ, and as the range what that gives for the highest raw. The range is thus a value that is shown, and the next
 * count brings 0: a turn is 2^32 u, one count more than the range. Where the range is none of such a counter, the
 * least is taken that lets all its values be: the range and 1 uJ. */
uint64_t rapl_powercap_modulus(uint64_t max_range)
{
    const uint64_t highest = UINT32_MAX;
    if (max_range >= UINT64_C(1) << 53) /* beyond 9 TJ: no range of anything; and exact as a double below */
        return max_range < UINT64_MAX ? max_range + 1 : 0;
    uint64_t unit_nj = (uint64_t)llround((double)max_range * 1000 / (double)highest);
    if (unit_nj && highest * unit_nj / 1000 == max_range)
        return (highest + 1) * unit_nj / 1000;
    return max_range + 1;
}

uint64_t rapl_gained(uint64_t before, uint64_t now, uint64_t modulus)
{
    if (modulus == 0 || now >= before)
        return now - before;
    return now + (modulus - before);
}

double rapl_min_hz(double turn_j, double watts)
{
    return 2 * watts / turn_j;
}

double rapl_most_watts(int domain)
{
    return is_domain(domain) ? table[domain].most_w : 0;
}

const char *rapl_domain_name(int domain)
{
    return is_domain(domain) ? table[domain].name : NULL;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What RAPL's registers mean on which processor: units, registers, domains, turns. Pure: words in, numbers out, so that
 * everything here is tested without a processor.
 */
#ifndef PS_RAPL_DECODE_H
#define PS_RAPL_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "powersample.h"

#define RAPL_MSR_MODULUS (UINT64_C(1) << 32) /* energy status: bits 31:0, the rest reserved (SDM 4, MSR 611H) */

enum rapl_vendor { RAPL_INTEL = 0, RAPL_AMD = 2, RAPL_HYGON = 9 }; /* as the kernel numbers them in modalias */

typedef struct rapl_processor {
    uint32_t vendor, family, model;
} rapl_processor;

/* How the register of units is to be read. Four rules, and a wrong one is wrong by 4, by 16384 or by 2^28. */
enum rapl_rule {
    RAPL_RULE_STANDARD, /* 2^-ESU J for every domain */
    RAPL_RULE_SERVER,   /* the same, but DRAM counts in 2^-16 J, whatever the register says */
    RAPL_RULE_RAPIDS,   /* the same, but DRAM counts in 2^-14 J and the platform in 1 J */
    RAPL_RULE_ATOM      /* 2^ESU uJ */
};

typedef struct rapl_model {
    uint32_t vendor;
    uint32_t family;
    uint32_t model;   /* RAPL_ANY_MODEL: the family and all later ones of the vendor */
    uint32_t domains; /* 1 << enum ps_rapl_domain */
    enum rapl_rule rule;
} rapl_model;

#define RAPL_ANY_MODEL UINT32_MAX

/* modalias: the text of devices/system/cpu/modalias, "cpu:type:x86,ven0000fam0006mod008F:feature:...". */
bool rapl_parse_processor(const char *modalias, rapl_processor *out);
const rapl_model *rapl_find_model(const rapl_processor *processor); /* NULL: nothing is known of it, so nothing is read */
bool rapl_has(const rapl_model *model, int domain);
uint32_t rapl_unit_register(const rapl_model *model);
uint32_t rapl_register(const rapl_model *model, int domain); /* 0: it has none */
/* Joules of one count. False when the word is none that such a register can hold. */
bool rapl_unit(const rapl_model *model, int domain, uint64_t word, double *joules);

/* AMD's package counter is the whole package's, and its core counters are one a core. Where the kernel calls a part of
 * an AMD package a die, it shows the package's counter once a die. */
bool rapl_counts_per_package(const rapl_processor *processor);

/* What energy_uj wraps at, from max_energy_range_uj. */
uint64_t rapl_powercap_modulus(uint64_t max_range);
/* How far a counter went from `before` to `now`; modulus 0: it does not wrap. Exact for less than one turn. */
uint64_t rapl_gained(uint64_t before, uint64_t now, uint64_t modulus);
/* The lowest rate at which a counter that gains at most `watts` is read twice a turn. */
double rapl_min_hz(double turn_j, double watts);
double rapl_most_watts(int domain); /* more than any there is, where the machine does not tell */

const char *rapl_domain_name(int domain); /* "package", "core" ...; NULL beyond the last */

#endif

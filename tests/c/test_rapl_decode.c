/* SPDX-License-Identifier: Apache-2.0
 *
 * Register words as real processors hold them, and what they must come to.
 */
#include <math.h>
#include <stdbool.h>

#include "harness.h"
#include "sources/rapl_decode.h"

enum { P = PS_RAPL_PACKAGE, C = PS_RAPL_CORE, U = PS_RAPL_UNCORE, D = PS_RAPL_DRAM, S = PS_RAPL_PSYS };

static const rapl_model *model_of(uint32_t vendor, uint32_t family, uint32_t model)
{
    return rapl_find_model(&(rapl_processor){vendor, family, model});
}

static void test_processor_from_modalias(void)
{
    static const struct {
        const char *text;
        bool known;
        rapl_processor is;
    } rows[] = {
        {"cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001", true, {RAPL_INTEL, 6, 0x8F}},
        {"cpu:type:x86,ven0002fam0019mod0001:feature:,0000", true, {RAPL_AMD, 0x19, 1}},
        {"cpu:type:x86,ven0009fam0018mod0001:feature:", true, {RAPL_HYGON, 0x18, 1}},
        {"cpu:type:aarch64:feature:,0000,0001", false, {0}},
        {"cpu:type:x86,ven0000fam0006", false, {0}},
        {"", false, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rapl_processor found = {7, 7, 7};
        CHECK_EQ(rows[i].known, rapl_parse_processor(rows[i].text, &found));
        CHECK_EQ(rows[i].known ? rows[i].is.vendor : 7, found.vendor);
        CHECK_EQ(rows[i].known ? rows[i].is.family : 7, found.family);
        CHECK_EQ(rows[i].known ? rows[i].is.model : 7, found.model);
    }
}

static void test_unit_of_every_rule(void)
{
    static const struct {
        const char *what;
        uint32_t vendor, family, model;
        uint64_t word;
        int domain;
        double joules; /* 0: refused */
    } rows[] = {
        /* Standard: 2^-ESU J. */
        {"Sandy Bridge", RAPL_INTEL, 6, 0x2A, 0xA1003, P, 0x1p-16},
        {"Sandy Bridge-EP", RAPL_INTEL, 6, 0x2D, 0xA1003, D, 0x1p-16},
        {"Haswell", RAPL_INTEL, 6, 0x3C, 0xA0E03, P, 0x1p-14},
        {"Skylake", RAPL_INTEL, 6, 0x5E, 0xA0E03, S, 0x1p-14},
        {"Raptor Lake-P", RAPL_INTEL, 6, 0xBA, 0xA0E03, U, 0x1p-14},
        {"Goldmont", RAPL_INTEL, 6, 0x5C, 0xA0E08, C, 0x1p-14},
        {"Denverton", RAPL_INTEL, 6, 0x5F, 0xA0E03, D, 0x1p-14},
        /* Server: DRAM in 2^-16 J beside a register that says 2^-14. */
        {"Haswell-EP", RAPL_INTEL, 6, 0x3F, 0xA0E03, P, 0x1p-14},
        {"Haswell-EP", RAPL_INTEL, 6, 0x3F, 0xA0E03, D, 0x1p-16},
        {"Broadwell-EP", RAPL_INTEL, 6, 0x4F, 0xA0E03, D, 0x1p-16},
        {"Broadwell-D", RAPL_INTEL, 6, 0x56, 0xA0E03, D, 0x1p-16},
        {"Skylake-SP", RAPL_INTEL, 6, 0x55, 0xA0E03, D, 0x1p-16},
        {"Ice Lake-SP", RAPL_INTEL, 6, 0x6A, 0xA0E03, D, 0x1p-16},
        {"Ice Lake-SP", RAPL_INTEL, 6, 0x6A, 0xA0E03, S, 0x1p-14},
        {"Ice Lake-D", RAPL_INTEL, 6, 0x6C, 0xA0E03, D, 0x1p-16},
        {"Knights Landing", RAPL_INTEL, 6, 0x57, 0xA0E03, D, 0x1p-16},
        {"Knights Mill", RAPL_INTEL, 6, 0x85, 0xA0E03, D, 0x1p-16},
        /* Rapids: 15.3 uJ would be four times too little, and the platform counts whole joules. */
        {"Sapphire Rapids", RAPL_INTEL, 6, 0x8F, 0xA0E03, P, 0x1p-14},
        {"Sapphire Rapids", RAPL_INTEL, 6, 0x8F, 0xA0E03, D, 0x1p-14},
        {"Sapphire Rapids", RAPL_INTEL, 6, 0x8F, 0xA0E03, S, 1},
        {"Sapphire Rapids", RAPL_INTEL, 6, 0x8F, 0xA0E03, C, 0}, /* has no such register */
        {"Emerald Rapids", RAPL_INTEL, 6, 0xCF, 0xA0E03, S, 1},
        {"Granite Rapids", RAPL_INTEL, 6, 0xAD, 0xA0E03, D, 0x1p-14},
        {"Granite Rapids-D", RAPL_INTEL, 6, 0xAE, 0xA0E03, S, 1},
        {"Sierra Forest", RAPL_INTEL, 6, 0xAF, 0xA0E03, D, 0x1p-14},
        {"Sierra Forest", RAPL_INTEL, 6, 0xAF, 0xA0E03, S, 0}, /* its sources contradict each other */
        /* Atom: 2^ESU uJ, the other way round. */
        {"Silvermont", RAPL_INTEL, 6, 0x37, 0x00505, P, 32e-6},
        {"Merrifield", RAPL_INTEL, 6, 0x4A, 0x00505, C, 32e-6},
        {"Moorefield", RAPL_INTEL, 6, 0x5A, 0x00605, P, 64e-6},
        {"SoFIA", RAPL_INTEL, 6, 0x5D, 0x00505, P, 32e-6},
        /* AMD and Hygon. */
        {"Zen", RAPL_AMD, 0x17, 0x01, 0xA1003, P, 0x1p-16},
        {"Zen 3", RAPL_AMD, 0x19, 0x01, 0xA1003, C, 0x1p-16},
        {"Zen 5", RAPL_AMD, 0x1A, 0x02, 0xA1003, P, 0x1p-16},
        {"Dhyana", RAPL_HYGON, 0x18, 0x00, 0xA1003, P, 0x1p-16},
        {"Zen 3", RAPL_AMD, 0x19, 0x01, 0xA1003, D, 0},
        /* Words that no such register holds. */
        {"a hypervisor's 0", RAPL_INTEL, 6, 0x8F, 0, P, 0},
        {"a hypervisor's 0", RAPL_INTEL, 6, 0x8F, 0, S, 0},
        {"ones", RAPL_INTEL, 6, 0x8F, UINT64_MAX, D, 0},
        {"ones", RAPL_AMD, 0x19, 1, UINT32_MAX, P, 0},
        {"a reserved bit", RAPL_INTEL, 6, 0x5E, 0xA0E03 | 1 << 13, P, 0},
        {"a unit of 1 J", RAPL_INTEL, 6, 0x5E, 0xA0003, P, 0},
        {"a unit of 0.5 nJ", RAPL_INTEL, 6, 0x5E, 0xA1F03, P, 0},
        {"an Atom's unit of 65 mJ", RAPL_INTEL, 6, 0x37, 0x01005, P, 0},
        {"an energy", RAPL_INTEL, 6, 0x5E, 0x12345678, P, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const rapl_model *model = model_of(rows[i].vendor, rows[i].family, rows[i].model);
        double joules = -1;
        bool found = model && rapl_unit(model, rows[i].domain, rows[i].word, &joules);
        double expected = rows[i].joules > 0 ? rows[i].joules : -1;
        if (found != (rows[i].joules > 0) || fabs(joules - expected) > 1e-18) {
            fprintf(stderr, "%s, %s: %g J, expected %g\n", rows[i].what, rapl_domain_name(rows[i].domain), joules,
                    expected);
            harness_failures++;
        }
    }
}

static void test_registers_of_both_makers(void)
{
    const rapl_model *intel = model_of(RAPL_INTEL, 6, 0x5E), *amd = model_of(RAPL_AMD, 0x19, 0x11);
    REQUIRE(intel && amd);
    CHECK_EQ(0x606, rapl_unit_register(intel));
    CHECK_EQ(0x611, rapl_register(intel, P));
    CHECK_EQ(0x639, rapl_register(intel, C));
    CHECK_EQ(0x641, rapl_register(intel, U));
    CHECK_EQ(0x619, rapl_register(intel, D));
    CHECK_EQ(0x64D, rapl_register(intel, S));
    CHECK_EQ(0xC0010299, rapl_unit_register(amd));
    CHECK_EQ(0xC001029B, rapl_register(amd, P));
    CHECK_EQ(0xC001029A, rapl_register(amd, C));
    CHECK_EQ(0, rapl_register(amd, D));
    CHECK_EQ(0, rapl_register(amd, S));
    CHECK_EQ(0, rapl_register(intel, PS_RAPL_DOMAINS));
    CHECK_EQ(0, rapl_register(intel, -1));
    CHECK_EQ(0, rapl_register(model_of(RAPL_INTEL, 6, 0x3F), C)); /* Haswell-EP: reserved, reads as 0 */
}

static void test_domains_by_model(void)
{
    static const struct {
        uint32_t model;
        const char *domains;
    } rows[] = {
        {0x2A, "package core uncore "}, {0x3E, "package core dram "},
        {0x3D, "package core uncore dram "}, {0xB7, "package core uncore dram psys "},
        {0x55, "package dram "}, {0x6A, "package dram psys "}, {0x8F, "package dram psys "},
        {0x37, "package core "}, {0x86, "package "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const rapl_model *model = model_of(RAPL_INTEL, 6, rows[i].model);
        REQUIRE(model);
        char text[64] = "";
        for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
            if (rapl_has(model, domain))
                snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", rapl_domain_name(domain));
        CHECK(strcmp(rows[i].domains, text) == 0);
    }
}

/* A unit is never guessed: what the tables lack is not read. */
static void test_unknown_processors_are_none_of_ours(void)
{
    static const rapl_processor rows[] = {
        {RAPL_INTEL, 6, 0x1A},  /* Nehalem: before RAPL */
        {RAPL_INTEL, 6, 0x4C},  /* Airmont: sources contradict each other */
        {RAPL_INTEL, 6, 0xFF},  /* not made yet */
        {RAPL_INTEL, 15, 0x8F}, /* the model of another family */
        {RAPL_AMD, 0x15, 0x01}, /* Bulldozer */
        {RAPL_AMD, 6, 0x8F},
        {RAPL_HYGON, 0x17, 0},
        {5, 6, 0x8F}, /* Centaur */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(rapl_find_model(&rows[i]) == NULL);
    CHECK(rapl_counts_per_package(&(rapl_processor){RAPL_AMD, 0x19, 1}));
    CHECK(rapl_counts_per_package(&(rapl_processor){RAPL_HYGON, 0x18, 1}));
    CHECK(!rapl_counts_per_package(&(rapl_processor){RAPL_INTEL, 6, 0x55}));
}

static void test_gain_is_exact_over_the_turn(void)
{
    static const struct {
        uint64_t before, now, modulus, gained;
    } rows[] = {
        {0, 0, RAPL_MSR_MODULUS, 0},
        {5, 12, RAPL_MSR_MODULUS, 7},
        {UINT32_MAX, 0, RAPL_MSR_MODULUS, 1}, /* the published formulas give 0 here */
        {UINT32_MAX - 9, 10, RAPL_MSR_MODULUS, 20},
        {1, 0, RAPL_MSR_MODULUS, UINT32_MAX},
        {UINT64_C(262143328850), 0, UINT64_C(262143328911), 61}, /* one count of 61 uJ */
        {10, 3, 0, UINT64_C(0) - 7},                             /* does not wrap: it went back */
        {UINT64_MAX - 1, 3, 0, 5},                               /* 64 bits do so by themselves */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_EQ(rows[i].gained, rapl_gained(rows[i].before, rows[i].now, rows[i].modulus));
}

static void test_powercap_turns_a_count_above_its_range(void)
{
    static const struct {
        uint64_t range, modulus;
    } rows[] = {
        {UINT64_C(262143328850), UINT64_C(262143328911)},         /* ESU 14: 61035 nJ */
        {UINT64_C(65712999613), UINT64_C(65712999628)},           /* server DRAM: 15300 nJ */
        {UINT64_C(65532610987), UINT64_C(65532611002)},           /* AMD, ESU 16: 15258 nJ */
        {UINT64_C(4294967295000000), UINT64_C(4294967296000000)}, /* Rapids' platform: 1 J */
        {UINT64_C(137438953440), UINT64_C(137438953472)},         /* Silvermont: 32 uJ */
        {8000000, 8000001}, {1000, 1001}, {0, 1},                 /* none of a 32-bit counter */
        {UINT64_C(1) << 60, (UINT64_C(1) << 60) + 1}, {UINT64_MAX, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_EQ(rows[i].modulus, rapl_powercap_modulus(rows[i].range));
    /* By the kernel's own arithmetic, over the turn: apart by no more than what two values and the turn are cut off. */
    for (uint64_t raw = 0; raw < 5000; raw += 7) {
        uint64_t before = (UINT32_MAX - raw) * 61035 / 1000, now = raw * 61035 / 1000;
        double expected = (double)(2 * raw + 1) * 61.035;
        CHECK(fabs((double)rapl_gained(before, now, UINT64_C(262143328911)) - expected) < 1.4);
    }
}

static void test_least_rate_reads_twice_a_turn(void)
{
    double turn_j = ldexp(1, 32) * 0x1p-14; /* 262 kJ: 655 s at 400 W */
    CHECK(fabs(1 / rapl_min_hz(turn_j, 400) - 655.36 / 2) < 1e-9);
    CHECK(fabs(1 / rapl_min_hz(ldexp(1, 32) * 0x1p-16, 1000) - 32.768) < 1e-9);
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        CHECK(rapl_most_watts(domain) >= 300 && rapl_domain_name(domain)[0]);
    CHECK(rapl_domain_name(PS_RAPL_DOMAINS) == NULL && rapl_most_watts(-1) == 0);
}

int main(void)
{
    test_processor_from_modalias();
    test_unit_of_every_rule();
    test_registers_of_both_makers();
    test_domains_by_model();
    test_unknown_processors_are_none_of_ours();
    test_gain_is_exact_over_the_turn();
    test_powercap_turns_a_count_above_its_range();
    test_least_rate_reads_twice_a_turn();
    return HARNESS_RESULT();
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * sample_loop LIBRARY PASSES: the shipped lane over the shipped nvml source, PASSES back to back. Run under callgrind with
 * two counts; the slope is what a sample costs. The ring holds all of them: a drop would be cheaper than a push.
 */
#include "bench.h"

int main(int argc, char **argv)
{
    NEED(argc == 3);
    uint64_t passes = bench_count(argv[2]);
    uint32_t ring_records = 2;
    while (ring_records < passes)
        ring_records *= 2;

    ps_error error = {0};
    ps_nvml *nvml;
    ps_source *source;
    need_ok(ps_nvml_open(argv[1], &nvml, &error), &error);
    need_ok(ps_nvml_source_new(nvml, 0, &source, &error), &error);
    ps_nvml_close(nvml);
    uint32_t channels;
    NEED(ps_source_channels(source, NULL, 0, &channels) == PS_OK && channels == 1);
    ps_lane_stats stats = bench_tight(source, passes, ring_records);
    NEED(stats.dropped == 0 && stats.n_errors == 0);
    return 0;
}

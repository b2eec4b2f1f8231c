/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine that gives no more threads or memory: a clear error, no lane left running, nothing leaked.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "script.h"

enum { LONE_USER = 54321 }; /* of whom nothing else runs: limits count all of a user's threads */

static const ps_lane_options automatic = {.mode = PS_MODE_PACED, .cpu = -1};

/* Threads of this process that are lanes, or all: a sanitizer has some of its own. */
static int threads(const char *name)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks);
    for (const struct dirent *entry; (entry = readdir(tasks));) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file)
            continue;
        count += fgets(comm, sizeof comm, file) && (!name || strncmp(comm, name, strlen(name)) == 0);
        fclose(file);
    }
    closedir(tasks);
    return count;
}

static void in_child(void (*test)(void))
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        test();
        exit(HARNESS_RESULT());
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(0, WEXITSTATUS(status));
}

/* The first lane gets its thread, the second does not. */
static void no_more_threads(void)
{
    const rlim_t allowed = geteuid() == 0 ? (rlim_t)threads(NULL) + 1 : 1; /* another user has threads already: not even one */
    const struct rlimit limit = {allowed, allowed};
    if (geteuid() == 0)
        REQUIRE(setgid(LONE_USER) == 0 && setuid(LONE_USER) == 0);
    REQUIRE(setrlimit(RLIMIT_NPROC, &limit) == 0);
    ps_sampler *sampler = script_sampler(script_ramp("one"), &automatic);
    script_add(sampler, script_ramp("two"), &automatic);
    ps_error error = {0};
    CHECK_EQ(PS_E_SYSTEM, ps_sampler_start(sampler, &error));
    CHECK_EQ(EAGAIN, error.vendor);
    CHECK_TEXT("pthread_create", error.call);
    CHECK_TEXT("ulimit -u", error.text);
    CHECK_EQ(0, ps_sampler_running(sampler));
    for (int i = 0; i < 5000 && threads("ps-lane") > 0; i++) /* a thread that was joined may be seen a moment longer */
        harness_sleep_ms(1);
    CHECK_EQ(0, threads("ps-lane"));
    CHECK_EQ(PS_E_STATE, ps_sampler_start(sampler, &error)); /* once is once */
    ps_sampler_free(sampler);
}

static void test_thread_limit_refuses_the_start_and_leaves_no_lane(void)
{
    in_child(no_more_threads);
}

static void no_more_memory(void)
{
    enum { SLACK = 256 << 20, RING = 1 << 26 }; /* a ring of 2 GiB */
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    REQUIRE(statm && fscanf(statm, "%ld", &pages) == 1);
    fclose(statm);
    const rlim_t allowed = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + SLACK;
    const struct rlimit limit = {allowed, allowed};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    void *more = mmap(NULL, (size_t)RING * sizeof(ps_sample), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (more != MAP_FAILED) {
        printf("no limit of memory is kept to here, as under an emulator: not tested\n");
        return;
    }

    ps_sampler *sampler = script_sampler(script_ramp("small"), &automatic);
    ps_source *source = script_ramp("large");
    const ps_lane_options options = {.mode = PS_MODE_FOLLOW, .cpu = -1, .ring_records = RING};
    ps_error error = {0};
    for (int i = 0; i < 100; i++) /* whatever was had before the refusal is given back */
        CHECK_EQ(PS_E_NOMEM, ps_sampler_add(sampler, source, &options, NULL, &error));
    CHECK_TEXT("large", error.text);
    CHECK_TEXT("2048 MiB", error.text);
    CHECK_TEXT("memory limit", error.text);
    CHECK_EQ(1, ps_sampler_lanes(sampler));
    ps_source_free(source); /* still ours */
    REQUIRE(ps_sampler_start(sampler, &error) == PS_OK); /* what fitted goes on */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_sampler_free(sampler);
}

static void test_memory_limit_refuses_the_ring_and_keeps_the_rest(void)
{
#ifndef __SANITIZE_THREAD__ /* whose shadow alone is more than any limit */
    in_child(no_more_memory);
#else
    (void)no_more_memory;
#endif
}

int main(void)
{
    test_thread_limit_refuses_the_start_and_leaves_no_lane();
    test_memory_limit_refuses_the_ring_and_keeps_the_rest();
    return HARNESS_RESULT();
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The least libnvidia-ml there can be: one board, one quantity, a constant, at once. What is measured on it is our cost and
 * nobody else's. It offers nothing but nvmlDeviceGetPowerUsage, so a pass of the nvml source is one call and one record.
 */
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, POWER_MW = 123456 };

static char board; /* its address is the handle */

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlInitWithFlags(unsigned flags);
EXPORT int nvmlShutdown(void);
EXPORT const char *nvmlErrorString(int code);
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned size);
EXPORT int nvmlSystemGetNVMLVersion(char *text, unsigned size);
EXPORT int nvmlDeviceGetCount_v2(unsigned *count);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned size);
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned size);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);

static int give_text(char *text, unsigned size, const char *value)
{
    return snprintf(text, size, "%s", value) < (int)size ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlInit_v2(void)
{
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return SUCCESS;
}

int nvmlShutdown(void)
{
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    return code == SUCCESS ? "Success" : "Invalid Argument";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    return give_text(text, size, "0.0-stub");
}

int nvmlSystemGetNVMLVersion(char *text, unsigned size)
{
    return give_text(text, size, "0.0-stub");
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    if (index != 0)
        return INVALID_ARGUMENT;
    *device = &board;
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size)
{
    return device == &board ? give_text(text, size, "GPU-STUB-0") : INVALID_ARGUMENT;
}

int nvmlDeviceGetName(void *device, char *text, unsigned size)
{
    return device == &board ? give_text(text, size, "stub") : INVALID_ARGUMENT;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    if (device != &board)
        return INVALID_ARGUMENT;
    *milliwatts = POWER_MW;
    return SUCCESS;
}

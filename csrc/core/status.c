/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and phrases of the status codes, and the one way to fill a ps_error.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/source.h"

static const struct {
    int status;
    const char *name;
    const char *text;
} table[] = {
    {PS_OK, "PS_OK", "ok"},
    {PS_E_INVALID, "PS_E_INVALID", "argument outside its range"},
    {PS_E_NOMEM, "PS_E_NOMEM", "out of memory"},
    {PS_E_SYSTEM, "PS_E_SYSTEM", "a system call failed"},
    {PS_E_NOT_FOUND, "PS_E_NOT_FOUND", "not found"},
    {PS_E_ACCESS, "PS_E_ACCESS", "access denied"},
    {PS_E_UNSUPPORTED, "PS_E_UNSUPPORTED", "not supported by the device or its library"},
    {PS_E_STATE, "PS_E_STATE", "not possible in this state"},
    {PS_E_TIMEOUT, "PS_E_TIMEOUT", "timed out"},
    {PS_E_FORMAT, "PS_E_FORMAT", "malformed data"},
    {PS_E_VENDOR, "PS_E_VENDOR", "the device's library refused"},
    {PS_E_FULL, "PS_E_FULL", "full"},
};

enum { TABLE_ROWS = sizeof table / sizeof table[0] };

const char *ps_status_name(int status)
{
    for (int i = 0; i < TABLE_ROWS; i++)
        if (table[i].status == status)
            return table[i].name;
    return "PS_E_UNKNOWN";
}

const char *ps_status_text(int status)
{
    for (int i = 0; i < TABLE_ROWS; i++)
        if (table[i].status == status)
            return table[i].text;
    return "unknown status";
}

const char *ps_version(void)
{
    return "0.1.0";
}

int ps_fail(ps_error *error, int status, int vendor, const char *call, const char *format, ...)
{
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        error->vendor = vendor;
        snprintf(error->call, sizeof error->call, "%s", call);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

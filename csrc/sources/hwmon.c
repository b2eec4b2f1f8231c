/* SPDX-License-Identifier: Apache-2.0
 *
 * Power and energy by the kernel's hardware monitoring: a source a chip, so that a slow bus costs the others nothing.
 * Its files are kept open; when the chip goes they are looked for again by where its device is, for hwmon3 may come
 * back as hwmon5. A suspended device is left asleep.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "sources/hwmon.h"

/* What an ACPI power meter says when it does not know: all ones, in mW (ACPI 6.5, 10.4.1). */
static const int64_t ACPI_UNKNOWN_UW = INT64_C(0xFFFFFFFF) * 1000;

/* As the kernel numbers them: POWER_SUPPLY_STATUS_UNKNOWN and on. */
enum { UNKNOWN = 0, CHARGING = 1, DISCHARGING = 2, NOT_CHARGING = 3, FULL = 4 };

/* ---- reading ---- */

/* A word of a kept file, without its newline. Returns 0 or an errno. */
static uint16_t read_word(int fd, char out[HWMON_FILE])
{
    ssize_t got;
    do
        got = pread(fd, out, HWMON_FILE - 1, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return (uint16_t)errno;
    out[got] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return got ? 0 : ENODATA;
}

static bool is_asleep(const hwmon *self)
{
    char word[HWMON_FILE];
    return self->awake_fd >= 0 && read_word(self->awake_fd, word) == 0 &&
           (strcmp(word, "suspended") == 0 || strcmp(word, "suspending") == 0);
}

/* Voltage times current, one after the other: not of one instant. Either's failure is the product's. */
static uint16_t read_product(const hwmon_input *one, int64_t divisor, int64_t *out)
{
    int64_t voltage, current, product;
    uint16_t status = sysfs_value(one->fd[0], &voltage);
    if (!status)
        status = sysfs_value(one->fd[1], &current);
    if (status)
        return status;
    if (__builtin_mul_overflow(voltage, current, &product))
        return EOVERFLOW;
    *out = product / divisor;
    return 0;
}

static uint16_t read_value(const hwmon *self, const hwmon_input *one, int64_t *out)
{
    uint16_t status;
    switch (one->form) {
    case HWMON_ENERGY:
        status = sysfs_value(one->fd[0], out);
        return !status && *out < 0 ? EBADMSG : status;
    case HWMON_PRODUCT:
        return read_product(one, 1, out); /* mV mA = uW */
    case HWMON_BATTERY_PRODUCT:
        return read_product(one, 1000000, out);
    default:
        status = sysfs_value(one->fd[0], out);
        return !status && *out == ACPI_UNKNOWN_UW && strcmp(self->chip.name, "power_meter") == 0 ? ENODATA : status;
    }
}

static uint16_t read_battery_status(const hwmon_input *one, int64_t *out)
{
    static const char *const words[] = {[UNKNOWN] = "Unknown",
                                        [CHARGING] = "Charging",
                                        [DISCHARGING] = "Discharging",
                                        [NOT_CHARGING] = "Not charging",
                                        [FULL] = "Full"};
    char word[HWMON_FILE];
    uint16_t failure = read_word(one->fd[2], word);
    for (int i = 0; !failure && i < (int)(sizeof words / sizeof *words); i++)
        if (strcmp(word, words[i]) == 0) {
            *out = i;
            return 0;
        }
    return failure ? failure : EBADMSG;
}

/* Signed by the status, for drivers do not agree on a sign of their own. */
static uint16_t direct(int64_t status, int64_t *uw)
{
    if (*uw < 0)
        *uw = -*uw;
    if (status == CHARGING)
        *uw = -*uw;
    return status == CHARGING || status == DISCHARGING || *uw == 0 ? 0 : ENODATA; /* else nobody says which way */
}

static bool is_battery(const hwmon_input *one)
{
    return one->form == HWMON_BATTERY || one->form == HWMON_BATTERY_PRODUCT;
}

/* Fills what an input gives; returns how many readings. */
static uint32_t read_input(const hwmon *self, hwmon_input *one, ps_reading *out)
{
    const bool battery = is_battery(one);
    const uint32_t n = battery ? 2 : 1;
    uint16_t failure = is_asleep(self) ? PS_HWMON_ASLEEP : one->closed;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (ps_reading){.channel = (uint16_t)(one->channel + i), .status = failure};
    if (!failure) {
        out[0].status = read_value(self, one, &out[0].raw);
        if (battery) {
            out[1].status = read_battery_status(one, &out[1].raw);
            if (!out[0].status)
                out[0].status = out[1].status ? out[1].status : direct(out[1].raw, &out[0].raw);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        if (out[i].status)
            out[i].raw = 0;
    one->status = out[0].status;
    return n;
}

static uint32_t hwmon_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    hwmon *self = (hwmon *)source;
    return read_input(self, &self->inputs[group], out);
}

/* ---- opening, and again ---- */

static int open_file(const hwmon *self, const char *file)
{
    char path[HWMON_PATH + 2 * HWMON_FILE];
    snprintf(path, sizeof path, "%s/%s", self->chip.folder, file);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void close_input(hwmon_input *one)
{
    for (int i = 0; i < HWMON_FILES; i++) {
        if (one->fd[i] >= 0)
            close(one->fd[i]);
        one->fd[i] = -1;
    }
}

/* Returns whether it gives a value. */
static bool open_input(const hwmon *self, hwmon_input *one)
{
    close_input(one);
    one->closed = 0;
    for (int i = 0; i < HWMON_FILES && !one->closed; i++) {
        if (!one->file[i][0])
            continue;
        one->fd[i] = open_file(self, one->file[i]);
        one->closed = one->fd[i] < 0 ? (uint16_t)errno : 0;
    }
    ps_reading readings[2];
    (void)read_input(self, one, readings);
    return one->status == 0;
}

/* A device that can be suspended says so at each reading; "unsupported" and a missing file mean that it never is. */
static void open_awake(hwmon *self)
{
    char text[SYSFS_TEXT], file[HWMON_FILE];
    if (self->awake_fd >= 0)
        close(self->awake_fd);
    self->awake_fd = -1;
    const char *end = strrchr(self->chip.folder, '/');
    snprintf(file, sizeof file, "%spower/runtime_status", end && strcmp(end, "/device") == 0 ? "" : "device/");
    if (!self->chip.battery && sysfs_file(text, "%s/%s", self->chip.folder, file) == 0 &&
        strcmp(text, "unsupported") != 0)
        self->awake_fd = open_file(self, file);
}

/* Whether an input's first descriptor is still the file of that name: if it is, the device is there and means what it
 * says, and opening anew changes nothing. */
static bool is_current(const hwmon *self, const hwmon_input *one)
{
    char path[HWMON_PATH + HWMON_FILE];
    struct stat here, there;
    snprintf(path, sizeof path, "%s/%s", self->chip.folder, one->file[0]);
    return one->fd[0] >= 0 && fstat(one->fd[0], &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

/* Finds the chip by name and by where its device is. Allocates, as walking folders does: the lane has lost its device
 * anyway. */
static bool locate(const char *sysfs, const char *id, const char *home, hwmon_chip *out)
{
    hwmon_chip *chips = malloc(HWMON_CHIPS_MAX * sizeof *chips);
    bool found = false;
    uint32_t n = chips ? hwmon_find(sysfs, chips) : 0;
    for (uint32_t i = 0; i < n && !found; i++) {
        found = strcmp(chips[i].id, id) == 0 && (!home || strcmp(chips[i].home, home) == 0);
        if (found)
            *out = chips[i];
    }
    free(chips);
    return found;
}

static void move_to(hwmon *self, const hwmon_chip *chip)
{
    const char *end = strrchr(self->chip.folder, '/');
    bool of_device = end && strcmp(end, "/device") == 0; /* an old driver stays one */
    if (snprintf(self->chip.folder, sizeof self->chip.folder, "%.500s%s", chip->folder, of_device ? "/device" : "") > 0)
        self->chip.number = chip->number;
}

static int hwmon_recover(ps_source *source, int64_t now_ns)
{
    hwmon *self = (hwmon *)source;
    if (!backoff_due(&self->again, now_ns))
        return 0;
    bool lost[HWMON_INPUTS_MAX], any = false, back = false, away = false;
    for (uint32_t i = 0; i < self->base.n_groups; i++) {
        const hwmon_input *one = &self->inputs[i];
        lost[i] = one->status && one->status != PS_HWMON_ASLEEP && !is_current(self, one);
        any |= lost[i];
    }
    hwmon_chip chip;
    if (any && locate(self->sysfs, self->chip.id, self->chip.home, &chip)) {
        move_to(self, &chip);
        open_awake(self);
        for (uint32_t i = 0; i < self->base.n_groups; i++) {
            if (!lost[i])
                continue;
            bool opened = open_input(self, &self->inputs[i]);
            back |= opened;
            away |= !opened;
        }
    } else {
        away = any;
    }
    backoff_tried(&self->again, now_ns, away);
    return back;
}

static void hwmon_free(ps_source *source)
{
    hwmon *self = (hwmon *)source;
    for (uint32_t i = 0; i < self->base.n_groups; i++)
        close_input(&self->inputs[i]);
    if (self->awake_fd >= 0)
        close(self->awake_fd);
    free(self);
}

static const struct ps_source_ops hwmon_ops = {.read = hwmon_read, .recover = hwmon_recover, .free = hwmon_free};

/* ---- the interface ---- */

static int new_source(const char *sysfs, const hwmon_chip *chip, hwmon **out, ps_hwmon_opening *opening)
{
    hwmon *self = calloc(1, sizeof *self);
    if (!self)
        return PS_E_NOMEM;
    self->base = (ps_source){.ops = &hwmon_ops, .channels = self->channels, .groups = self->groups};
    self->chip = *chip;
    self->awake_fd = -1;
    snprintf(self->base.name, sizeof self->base.name, "hwmon:%s", chip->id);
    /* Chips of one driver may sit behind one lock or bus: the ACPI interpreter, an I2C adapter. */
    snprintf(self->base.driver, sizeof self->base.driver, "%.15s", chip->battery ? "power_supply" : chip->name);
    snprintf(self->sysfs, sizeof self->sysfs, "%s", sysfs);
    hwmon_describe(self, opening);
    *out = self;
    return PS_OK;
}

int ps_hwmon_chips(const char *sysfs, ps_hwmon_chip *out, uint32_t capacity, uint32_t *count, ps_error *error)
{
    const char *call = "ps_hwmon_chips", *root = sysfs ? sysfs : "/sys";
    if (!count || (capacity && !out))
        return ps_fail(error, PS_E_INVALID, 0, call, "nowhere to return them");
    hwmon_chip *chips = malloc(HWMON_CHIPS_MAX * sizeof *chips);
    if (!chips)
        return ps_fail(error, PS_E_NOMEM, 0, call, "%.64s", root);
    uint32_t n = hwmon_find(root, chips), found = 0;
    int status = PS_OK;
    for (uint32_t i = 0; i < n && status == PS_OK; i++) {
        hwmon *self = NULL;
        ps_hwmon_opening opening = {0};
        status = new_source(root, &chips[i], &self, &opening);
        if (status != PS_OK)
            break;
        if (self->base.n_channels || opening.n_refused) {
            if (found < capacity) {
                snprintf(out[found].id, sizeof out->id, "%s", chips[i].id);
                snprintf(out[found].name, sizeof out->name, "%.31s", chips[i].battery ? "battery" : chips[i].name);
                snprintf(out[found].path, sizeof out->path, "%.255s", self->chip.folder);
            }
            found++;
        }
        hwmon_free(&self->base);
    }
    free(chips);
    if (status != PS_OK)
        return ps_fail(error, status, 0, call, "%.64s", root);
    if (!found)
        return ps_fail(error, PS_E_NOT_FOUND, 0, call,
                       "no chip of %.64s/class/hwmon and no battery measures power or energy", root);
    *count = found;
    return PS_OK;
}

/* A device that has nothing to say at this moment is read all the same; one whose files cannot be opened is not. The
 * first stands for all: mostly they are closed to this user together. */
static int refusal(const hwmon *self, const ps_hwmon_opening *opening, ps_error *error)
{
    if (!self->base.n_groups)
        return ps_fail(error, PS_E_UNSUPPORTED, 0, opening->refused[0].call, "%s", opening->refused[0].text);
    for (uint32_t i = 0; i < self->base.n_groups; i++)
        if (!self->inputs[i].closed)
            return PS_OK;
    int code = self->inputs[0].closed;
    return ps_fail(error, ps_errno_status(code), code, "open", "%.120s/%s: %s", self->chip.folder,
                   self->inputs[0].file[0], strerror(code));
}

static void open_first(const hwmon *self, hwmon_input *one, ps_hwmon_opening *opening)
{
    if (open_input(self, one)) {
        opening->answering += is_battery(one) ? 2 : 1;
    } else if (one->status != PS_HWMON_ASLEEP) {
        if (opening->n_refused < PS_HWMON_REFUSED)
            (void)ps_fail(&opening->refused[opening->n_refused], ps_errno_status(one->status), one->status,
                          one->file[0], "%s", strerror(one->status));
        opening->n_refused++;
    }
}

int ps_hwmon_open(const char *sysfs, const char *id, ps_source **out, ps_hwmon_opening *opening, ps_error *error)
{
    const char *call = "ps_hwmon_open", *root = sysfs ? sysfs : "/sys";
    if (!id || !out || !opening)
        return ps_fail(error, PS_E_INVALID, 0, call, "nowhere to return it");
    *opening = (ps_hwmon_opening){0};
    hwmon_chip chip;
    if (!locate(root, id, NULL, &chip))
        return ps_fail(error, PS_E_NOT_FOUND, 0, call, "there is no chip %.40s in %.64s/class", id, root);
    hwmon *self = NULL;
    if (new_source(root, &chip, &self, opening) != PS_OK)
        return ps_fail(error, PS_E_NOMEM, 0, call, "%.40s", id);
    open_awake(self);
    for (uint32_t i = 0; i < self->base.n_groups; i++)
        open_first(self, &self->inputs[i], opening);
    opening->asleep = is_asleep(self);
    int status = refusal(self, opening, error);
    if (status != PS_OK)
        hwmon_free(&self->base);
    else
        *out = &self->base;
    return status;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * See backoff.h.
 */
#include "sources/backoff.h"

static const int64_t MIN_NS = INT64_C(250000000), MAX_NS = INT64_C(30000000000);

bool backoff_due(const backoff *self, int64_t now_ns)
{
    return now_ns >= self->next_try_ns;
}

void backoff_tried(backoff *self, int64_t now_ns, bool failed)
{
    int64_t wait_ns = failed ? 2 * self->wait_ns : 0;
    self->wait_ns = wait_ns < MIN_NS ? MIN_NS : wait_ns < MAX_NS ? wait_ns : MAX_NS;
    self->next_try_ns = now_ns + self->wait_ns;
}

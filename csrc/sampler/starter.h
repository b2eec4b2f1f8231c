/* SPDX-License-Identifier: Apache-2.0
 *
 * Starts the lanes from a thread that may put them under SCHED_FIFO when the program itself no longer may.
 *
 * To enter a real-time class takes CAP_SYS_NICE; to stay in the one that a thread was born into takes nothing. So the
 * main thread enters it while it has the capability, drops that, makes the thread here, and goes back. The lanes are
 * born of this thread. NVML, and whatever that starts, is loaded by the main one and never was in the class.
 */
#ifndef PS_SAMPLER_STARTER_H
#define PS_SAMPLER_STARTER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "powersample.h"

typedef struct sampler_starter {
    bool exists; /* else the lanes are started by whoever asks for it */
    pthread_t thread;
    sem_t go;
    ps_sampler *sampler; /* NULL: none is to be started */
    ps_error *error;
    int status;
} sampler_starter;

/* Enters the class, with the capability. A refusal is the lanes' to meet again and to record. */
void starter_enter_class(int32_t priority);
/* Makes the thread and leaves the class. */
void starter_make(sampler_starter *self);
int starter_start(sampler_starter *self, ps_sampler *sampler, ps_error *error); /* as ps_sampler_start */
void starter_end(sampler_starter *self); /* if nothing was started */

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * See starter.h.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>

#include "sampler/starter.h"

static void *run(void *argument)
{
    sampler_starter *self = argument;
    while (sem_wait(&self->go) != 0 && errno == EINTR)
        ;
    if (self->sampler)
        self->status = ps_sampler_start(self->sampler, self->error);
    return NULL;
}

void starter_enter_class(int32_t priority)
{
    const struct sched_param wish = {.sched_priority = priority};
    (void)sched_setscheduler(0, SCHED_FIFO, &wish); /* without SCHED_RESET_ON_FORK: it is to be inherited */
}

void starter_make(sampler_starter *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    self->exists = sem_init(&self->go, 0, 0) == 0 && pthread_create(&self->thread, NULL, run, self) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    const struct sched_param ordinary = {0};
    (void)sched_setscheduler(0, SCHED_OTHER, &ordinary);
}

static void let_go(sampler_starter *self)
{
    sem_post(&self->go);
    pthread_join(self->thread, NULL);
    sem_destroy(&self->go);
    self->exists = false;
}

int starter_start(sampler_starter *self, ps_sampler *sampler, ps_error *error)
{
    if (!self->exists)
        return ps_sampler_start(sampler, error);
    self->sampler = sampler;
    self->error = error;
    let_go(self);
    return self->status;
}

void starter_end(sampler_starter *self)
{
    if (self->exists)
        let_go(self);
}

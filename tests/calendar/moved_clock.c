/* The wall clock, moved by CLOCK_AHEAD_SECONDS, for every program that starts with this library in LD_PRELOAD.
 *
 * Only the wall clock: the monotonic one, which timeouts and event loops go by, stays as it is. The database servers of
 * the tests keep their own clock: an instance may not rely on theirs being the same as its own. (libfaketime does more,
 * but version 0.9.10, which Debian and Ubuntu have, makes time.sleep of Python 3.11 and later fail when the monotonic
 * clock is to be left alone, and hang when it is not.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static const char *const own_clock[] = {"postgres", "initdb", "psql", "pg_isready", "redis-server", "valkey-server"};

static long long ahead;

__attribute__((constructor)) static void read_environment(void) {
    for (size_t i = 0; i < sizeof own_clock / sizeof *own_clock; i++)
        if (strcmp(program_invocation_short_name, own_clock[i]) == 0) return;
    const char *text = getenv("CLOCK_AHEAD_SECONDS");
    if (text) ahead = atoll(text);
}

int clock_gettime(clockid_t clock, struct timespec *answer) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = next(clock, answer);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) answer->tv_sec += ahead;
    return status;
}

int gettimeofday(struct timeval *restrict answer, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    answer->tv_sec = now.tv_sec;
    answer->tv_usec = now.tv_nsec / 1000;
    return status;
}

time_t time(time_t *answer) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (answer) *answer = now.tv_sec;
    return now.tv_sec;
}

/* Locks of a Python that was built for an older C library wait until a time of the wall clock. */
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec own = {until->tv_sec - ahead, until->tv_nsec};
    return next(semaphore, &own);
}

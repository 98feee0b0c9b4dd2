/* The system's clock is set back by some seconds once a process has run for a while, as a time server would.
 *
 * Loaded ahead of the C library (LD_PRELOAD); FAULT_CLOCK_BACK_AT holds "seconds after the start,seconds back". The monotonic
 * clock goes on, as the real one does. FAULT_CLOCK_SEEN is created when a process first sees the clock set back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static struct timespec begun;
static double after, back;
static int seen;

__attribute__((constructor)) static void begin(void) {
  const char *asked = getenv("FAULT_CLOCK_BACK_AT");
  real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  if (asked == NULL || sscanf(asked, "%lf,%lf", &after, &back) != 2) back = 0;
  real(CLOCK_MONOTONIC, &begun);
}

int clock_gettime(clockid_t which, struct timespec *out) {
  struct timespec now;
  if (real == NULL) begin();
  int code = real(which, out);
  if (code != 0 || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE)) return code;
  real(CLOCK_MONOTONIC, &now);
  if ((now.tv_sec - begun.tv_sec) + (now.tv_nsec - begun.tv_nsec) / 1e9 <= after) return 0;
  out->tv_sec -= (time_t)back;
  if (!seen) {
    const char *path = getenv("FAULT_CLOCK_SEEN");
    seen = 1;
    if (path != NULL) close(open(path, O_WRONLY | O_CREAT, 0600));
  }
  return 0;
}

int gettimeofday(struct timeval *out, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

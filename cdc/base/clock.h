/* Time, randomness. Same two builds as waitq.h: the system's, or virtual time and a seeded
 * generator. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

int64_t clock_mono_us(void); /* for deadlines and durations; origin arbitrary */
/* Microseconds since 1970-01-01 UTC; for people only, never for order. */
int64_t clock_wall_us(void);
void clock_sleep_until_us(int64_t mono_deadline_us);
void rng_bytes(void *out, size_t len);
/* YYYY-MM-DDTHH:MM:SS.mmmZ of a wall time; out has room for 32 bytes. Years are astronomical: 0000
 * is 1 BC, then -0001. Pure: in cdc/base, the same in both builds. */
void clock_format_wall(int64_t wall_us, char *out);

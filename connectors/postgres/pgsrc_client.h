/* Which keys of a job's URL are libpq's own: what the linked library says. Reads only. Thread: any.
 */
#pragma once
#include <stdbool.h>

bool pgsrc_client_key(const char *key);

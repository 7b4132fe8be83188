/* iceberg:///folder : one Iceberg table a source table, in a warehouse folder with its embedded
 * catalog. */
#pragma once
#include "cdc/sink.h"

extern const struct sink_ops iceberg_ops;

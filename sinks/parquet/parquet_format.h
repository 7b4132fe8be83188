/* Numbers of the Parquet format (parquet-format 2.11, parquet.thrift) that the writer and the
 * reader share: physical types, encodings, codecs, and the field ids of the Thrift structures that
 * either of them knows. Constants only; nothing here has behaviour. Names follow parquet.thrift.
 *
 * A file: "PAR1" | row groups: column chunks: [dictionary page] data pages | bloom filters |
 * column indexes | offset indexes | FileMetaData | its length, 4 bytes little-endian | "PAR1". */
#pragma once
#include <stdint.h>

#define PARQUET_MAGIC "PAR1"
#define PARQUET_MAGIC_ENCRYPTED "PARE"
#define PARQUET_FOOTER_TAIL 8u /* length and magic at the file's end */

/* Thrift compact protocol: the low four bits of a field or list header. */
enum thrift_type {
    THRIFT_STOP = 0,
    THRIFT_TRUE = 1, /* in a field header; an element of a list of bool is a byte 1 or 2 */
    THRIFT_FALSE = 2,
    THRIFT_BYTE = 3,
    THRIFT_I16 = 4,
    THRIFT_I32 = 5,
    THRIFT_I64 = 6,
    THRIFT_DOUBLE = 7,
    THRIFT_BINARY = 8,
    THRIFT_LIST = 9,
    THRIFT_SET = 10,
    THRIFT_MAP = 11,
    THRIFT_STRUCT = 12,
    THRIFT_UUID = 13,
};

enum parquet_physical {
    PHYSICAL_BOOLEAN = 0,
    PHYSICAL_INT32 = 1,
    PHYSICAL_INT64 = 2,
    PHYSICAL_INT96 = 3,
    PHYSICAL_FLOAT = 4,
    PHYSICAL_DOUBLE = 5,
    PHYSICAL_BYTE_ARRAY = 6,
    PHYSICAL_FIXED = 7, /* FIXED_LEN_BYTE_ARRAY */
};
enum parquet_repetition {
    REPETITION_REQUIRED = 0,
    REPETITION_OPTIONAL = 1,
    REPETITION_REPEATED = 2
};
enum parquet_encoding {
    ENCODING_PLAIN = 0,
    ENCODING_PLAIN_DICTIONARY =
        2, /* deprecated; read as RLE_DICTIONARY, PLAIN for the dictionary */
    ENCODING_RLE = 3,
    ENCODING_BIT_PACKED = 4, /* deprecated: levels only */
    ENCODING_DELTA_BINARY_PACKED = 5,
    ENCODING_DELTA_LENGTH_BYTE_ARRAY = 6,
    ENCODING_DELTA_BYTE_ARRAY = 7,
    ENCODING_RLE_DICTIONARY = 8,
    ENCODING_BYTE_STREAM_SPLIT = 9,
};
/* Codecs as the file has them; what we write is enum parquet_codec, with the same numbers. */
enum parquet_format_codec {
    FORMAT_CODEC_NONE = 0,
    FORMAT_CODEC_SNAPPY = 1,
    FORMAT_CODEC_GZIP = 2,
    FORMAT_CODEC_LZO = 3,
    FORMAT_CODEC_BROTLI = 4,
    FORMAT_CODEC_LZ4 = 5, /* ambiguous framing between writers */
    FORMAT_CODEC_ZSTD = 6,
    FORMAT_CODEC_LZ4_RAW = 7,
};
enum parquet_page_type { PAGE_DATA = 0, PAGE_INDEX = 1, PAGE_DICTIONARY = 2, PAGE_DATA_V2 = 3 };
enum parquet_boundary_order {
    BOUNDARY_UNORDERED = 0,
    BOUNDARY_ASCENDING = 1,
    BOUNDARY_DESCENDING = 2
};
/* ConvertedType, for readers older than LogicalType. */
enum parquet_converted {
    CONVERTED_UTF8 = 0,
    CONVERTED_MAP = 1,
    CONVERTED_LIST = 3,
    CONVERTED_ENUM = 4,
    CONVERTED_DECIMAL = 5,
    CONVERTED_DATE = 6,
    CONVERTED_TIME_MILLIS = 7,
    CONVERTED_TIME_MICROS = 8,
    CONVERTED_TIMESTAMP_MILLIS = 9,
    CONVERTED_TIMESTAMP_MICROS = 10,
    CONVERTED_UINT_8 = 11,
    CONVERTED_UINT_16 = 12,
    CONVERTED_UINT_32 = 13,
    CONVERTED_UINT_64 = 14,
    CONVERTED_INT_8 = 15,
    CONVERTED_INT_16 = 16,
    CONVERTED_INT_32 = 17,
    CONVERTED_INT_64 = 18,
    CONVERTED_JSON = 19,
    CONVERTED_BSON = 20,
    CONVERTED_INTERVAL = 21,
};
/* Members of the union LogicalType. */
enum parquet_logical {
    LOGICAL_STRING = 1,
    LOGICAL_MAP = 2,
    LOGICAL_LIST = 3,
    LOGICAL_ENUM = 4,
    LOGICAL_DECIMAL = 5, /* 1: i32 scale, 2: i32 precision */
    LOGICAL_DATE = 6,
    LOGICAL_TIME = 7,      /* 1: bool isAdjustedToUTC, 2: TimeUnit */
    LOGICAL_TIMESTAMP = 8, /* the same */
    LOGICAL_INTEGER = 10,  /* 1: byte bitWidth, 2: bool isSigned */
    LOGICAL_NULL = 11,
    LOGICAL_JSON = 12,
    LOGICAL_BSON = 13,
    LOGICAL_UUID = 14,
    LOGICAL_FLOAT16 = 15,
};
enum parquet_time_unit { TIME_UNIT_MILLIS = 1, TIME_UNIT_MICROS = 2, TIME_UNIT_NANOS = 3 };

/* Field ids, a structure each: what it is in Thrift behind it. */
enum file_meta_field {
    FILE_META_VERSION = 1,       /* i32 */
    FILE_META_SCHEMA = 2,        /* list<SchemaElement> */
    FILE_META_NUM_ROWS = 3,      /* i64 */
    FILE_META_ROW_GROUPS = 4,    /* list<RowGroup> */
    FILE_META_KEY_VALUES = 5,    /* list<KeyValue> */
    FILE_META_CREATED_BY = 6,    /* binary */
    FILE_META_COLUMN_ORDERS = 7, /* list<ColumnOrder>: a union, 1 = TypeDefinedOrder */
};
enum schema_element_field {
    SCHEMA_TYPE = 1,           /* i32 enum parquet_physical; leaves only */
    SCHEMA_TYPE_LENGTH = 2,    /* i32, of FIXED */
    SCHEMA_REPETITION = 3,     /* i32; not of the root */
    SCHEMA_NAME = 4,           /* binary */
    SCHEMA_NUM_CHILDREN = 5,   /* i32; groups only */
    SCHEMA_CONVERTED_TYPE = 6, /* i32 */
    SCHEMA_SCALE = 7,          /* i32 */
    SCHEMA_PRECISION = 8,      /* i32 */
    SCHEMA_FIELD_ID = 9,       /* i32 */
    SCHEMA_LOGICAL_TYPE = 10,  /* union LogicalType */
};
enum row_group_field {
    ROW_GROUP_COLUMNS = 1,               /* list<ColumnChunk> */
    ROW_GROUP_TOTAL_BYTE_SIZE = 2,       /* i64, before the codec */
    ROW_GROUP_NUM_ROWS = 3,              /* i64 */
    ROW_GROUP_SORTING_COLUMNS = 4,       /* list */
    ROW_GROUP_FILE_OFFSET = 5,           /* i64 */
    ROW_GROUP_TOTAL_COMPRESSED_SIZE = 6, /* i64 */
    ROW_GROUP_ORDINAL = 7,               /* i16 */
};
enum column_chunk_field {
    CHUNK_FILE_PATH = 1,           /* binary: another file; never ours */
    CHUNK_FILE_OFFSET = 2,         /* i64, 0 */
    CHUNK_META_DATA = 3,           /* ColumnMetaData */
    CHUNK_OFFSET_INDEX_OFFSET = 4, /* i64 */
    CHUNK_OFFSET_INDEX_LENGTH = 5, /* i32 */
    CHUNK_COLUMN_INDEX_OFFSET = 6, /* i64 */
    CHUNK_COLUMN_INDEX_LENGTH = 7, /* i32 */
    CHUNK_CRYPTO = 8,              /* encrypted column */
};
enum column_meta_field {
    COLUMN_META_TYPE = 1,                    /* i32 */
    COLUMN_META_ENCODINGS = 2,               /* list<i32> */
    COLUMN_META_PATH_IN_SCHEMA = 3,          /* list<binary> */
    COLUMN_META_CODEC = 4,                   /* i32 */
    COLUMN_META_NUM_VALUES = 5,              /* i64, nulls counted */
    COLUMN_META_TOTAL_UNCOMPRESSED_SIZE = 6, /* i64, page headers counted */
    COLUMN_META_TOTAL_COMPRESSED_SIZE = 7,   /* i64, page headers counted */
    COLUMN_META_KEY_VALUES = 8,              /* list */
    COLUMN_META_DATA_PAGE_OFFSET = 9,        /* i64: the first data page */
    COLUMN_META_INDEX_PAGE_OFFSET = 10,      /* i64 */
    COLUMN_META_DICTIONARY_PAGE_OFFSET = 11, /* i64, only if there is one */
    COLUMN_META_STATISTICS = 12,             /* Statistics */
    COLUMN_META_ENCODING_STATS = 13,         /* list<PageEncodingStats> */
    COLUMN_META_BLOOM_OFFSET = 14,           /* i64 */
    COLUMN_META_BLOOM_LENGTH = 15,           /* i32, header counted */
    COLUMN_META_SIZE_STATISTICS = 16,        /* SizeStatistics */
};
enum encoding_stats_field {
    ENCODING_STATS_PAGE_TYPE = 1, /* i32 */
    ENCODING_STATS_ENCODING = 2,  /* i32 */
    ENCODING_STATS_COUNT = 3,     /* i32 */
};
enum size_statistics_field {
    SIZE_UNENCODED_BYTES = 1,      /* i64, BYTE_ARRAY only */
    SIZE_REPETITION_HISTOGRAM = 2, /* list<i64> */
    SIZE_DEFINITION_HISTOGRAM = 3, /* list<i64> */
};
enum statistics_field {
    STATISTICS_MAX_OLD = 1,    /* binary, deprecated: order undefined */
    STATISTICS_MIN_OLD = 2,    /* binary, deprecated */
    STATISTICS_NULL_COUNT = 3, /* i64 */
    STATISTICS_DISTINCT = 4,   /* i64 */
    STATISTICS_MAX_VALUE = 5,  /* binary */
    STATISTICS_MIN_VALUE = 6,  /* binary */
    STATISTICS_MAX_EXACT = 7,  /* bool */
    STATISTICS_MIN_EXACT = 8,  /* bool */
};
enum page_header_field {
    PAGE_HEADER_TYPE = 1,         /* i32 enum parquet_page_type */
    PAGE_HEADER_UNCOMPRESSED = 2, /* i32 bytes of the body */
    PAGE_HEADER_COMPRESSED = 3,   /* i32 bytes of the body in the file */
    PAGE_HEADER_CRC = 4,          /* i32 CRC-32 of the body in the file */
    PAGE_HEADER_DATA = 5,         /* DataPageHeader */
    PAGE_HEADER_DICTIONARY = 7,   /* DictionaryPageHeader */
    PAGE_HEADER_DATA_V2 = 8,      /* DataPageHeaderV2 */
};
enum data_page_field {
    DATA_PAGE_NUM_VALUES = 1,          /* i32, nulls counted */
    DATA_PAGE_ENCODING = 2,            /* i32 */
    DATA_PAGE_DEFINITION_ENCODING = 3, /* i32 */
    DATA_PAGE_REPETITION_ENCODING = 4, /* i32 */
    DATA_PAGE_STATISTICS = 5,          /* Statistics */
};
enum data_page_v2_field {
    DATA_V2_NUM_VALUES = 1,        /* i32 */
    DATA_V2_NUM_NULLS = 2,         /* i32 */
    DATA_V2_NUM_ROWS = 3,          /* i32 */
    DATA_V2_ENCODING = 4,          /* i32 */
    DATA_V2_DEFINITION_LENGTH = 5, /* i32 bytes, never compressed */
    DATA_V2_REPETITION_LENGTH = 6, /* i32 bytes, never compressed */
    DATA_V2_IS_COMPRESSED = 7,     /* bool, default true */
    DATA_V2_STATISTICS = 8,        /* Statistics */
};
enum dictionary_page_field {
    DICTIONARY_PAGE_NUM_VALUES = 1, /* i32 */
    DICTIONARY_PAGE_ENCODING = 2,   /* i32: PLAIN */
    DICTIONARY_PAGE_IS_SORTED = 3,  /* bool */
};
enum column_index_field {
    COLUMN_INDEX_NULL_PAGES = 1,           /* list<bool> */
    COLUMN_INDEX_MIN_VALUES = 2,           /* list<binary>, empty for a null page */
    COLUMN_INDEX_MAX_VALUES = 3,           /* list<binary> */
    COLUMN_INDEX_BOUNDARY_ORDER = 4,       /* i32 */
    COLUMN_INDEX_NULL_COUNTS = 5,          /* list<i64> */
    COLUMN_INDEX_REPETITION_HISTOGRAM = 6, /* list<i64> */
    COLUMN_INDEX_DEFINITION_HISTOGRAM = 7, /* list<i64> */
};
enum offset_index_field {
    OFFSET_INDEX_LOCATIONS = 1,       /* list<PageLocation> */
    OFFSET_INDEX_UNENCODED_BYTES = 2, /* list<i64> */
};
enum page_location_field {
    PAGE_LOCATION_OFFSET = 1,    /* i64, of the page's header */
    PAGE_LOCATION_SIZE = 2,      /* i32, header and body */
    PAGE_LOCATION_FIRST_ROW = 3, /* i64, within the row group */
};
enum bloom_header_field {
    BLOOM_NUM_BYTES = 1,   /* i32 of the bitset */
    BLOOM_ALGORITHM = 2,   /* union: 1 = SPLIT_BLOCK */
    BLOOM_HASH = 3,        /* union: 1 = XXHASH */
    BLOOM_COMPRESSION = 4, /* union: 1 = UNCOMPRESSED */
};
enum key_value_field { KEY_VALUE_KEY = 1, KEY_VALUE_VALUE = 2 };

/* Which columns text= names: alone or with their table, and never by a part of a name. */
#include "sinks/parquet/parquet_choice.h"
#include "tests/unit/kit.h"

TEST(text_names_columns_alone_or_with_their_table) {
    const char *list = "at,public.t.v";
    EXPECT_TRUE(parquet_text_chosen(list, "public.t", "v")); /* as the cure of lake_value says it */
    EXPECT_TRUE(parquet_text_chosen(list, "public.t", "at"));
    EXPECT_TRUE(parquet_text_chosen(list, "public.u", "at"));
    EXPECT_TRUE(!parquet_text_chosen(list, "public.u", "v"));
    EXPECT_TRUE(!parquet_text_chosen(list, "public.t", "a"));
    EXPECT_TRUE(!parquet_text_chosen("v1,a.v", "public.t", "v"));
    EXPECT_TRUE(parquet_text_chosen("v1,v", "public.t", "v"));
    EXPECT_TRUE(!parquet_text_chosen(NULL, "public.t", "v"));
}

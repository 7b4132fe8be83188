package tailrace;

import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.BaseTable;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.FileScanTask;
import org.apache.iceberg.Snapshot;
import org.apache.iceberg.StaticTableOperations;
import org.apache.iceberg.Table;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.hadoop.HadoopFileIO;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.types.Types;

/**
 * Iceberg's own library as a judge. Commands come from standard input, a line each, so that one JVM serves a whole test:
 *
 *   scan WHERE NAME [SNAPSHOT]   each row as a line of cells between tabs, in the forms of judge.py's cell_text
 *   files WHERE NAME             each live data file: location, rows, first row id, number of deletes
 *   snapshots WHERE NAME         each snapshot of the table: id, sequence number
 *   rewrite WHERE NAME           all manifests written anew, as a commit of another program
 *   compact | compact_files | delete | partition WHERE NAME ..   other commits of another program: see Foreign
 *
 * WHERE: the URL of a metadata file, or "k=v,k=v" for a catalog. Each answer ends with a line "." or "! reason".
 */
public class Scan {
  private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

  private static Table load(String where, String name) {
    if (where.endsWith(".metadata.json")) {
      return new BaseTable(new StaticTableOperations(where, new HadoopFileIO(new Configuration(false))), name);
    }
    Map<String, String> properties = new HashMap<>();
    for (String pair : where.split(",")) {
      int at = pair.indexOf('=');
      properties.put(pair.substring(0, at), pair.substring(at + 1));
    }
    return CatalogUtil.buildIcebergCatalog(properties.getOrDefault("name", "tailrace"), properties, new Configuration(false))
        .loadTable(TableIdentifier.parse(name));
  }

  private static String hex(ByteBuffer bytes) {
    byte[] copy = new byte[bytes.remaining()];
    bytes.duplicate().get(copy);
    return HexFormat.of().formatHex(copy);
  }

  private static String text(Object v) {
    if (v == null) {
      return "null";
    } else if (v instanceof Float f) {
      return String.format("f:%08x", Float.floatToIntBits(f));
    } else if (v instanceof Double d) {
      return String.format("d:%016x", Double.doubleToLongBits(d));
    } else if (v instanceof BigDecimal d) {
      return d.toPlainString();
    } else if (v instanceof LocalTime t) {
      return "t:" + t.toNanoOfDay() / 1000;
    } else if (v instanceof LocalDateTime t) {
      return "ts:" + ChronoUnit.MICROS.between(LocalDateTime.ofEpochSecond(0, 0, ZoneOffset.UTC), t);
    } else if (v instanceof OffsetDateTime t) {
      return "tz:" + Math.addExact(Math.multiplyExact(t.toEpochSecond(), 1000000L), t.getNano() / 1000);
    } else if (v instanceof CharSequence s) {
      return "s:" + HexFormat.of().formatHex(s.toString().getBytes(StandardCharsets.UTF_8));
    } else if (v instanceof ByteBuffer b) {
      return "x:" + hex(b);
    } else if (v instanceof byte[] b) {
      return "x:" + HexFormat.of().formatHex(b);
    } else if (v instanceof List<?> list) {
      StringJoiner joined = new StringJoiner(",", "[", "]");
      list.forEach(e -> joined.add(text(e)));
      return joined.toString();
    }
    return v.toString(); // booleans, integers, dates, uuids
  }

  private static void scan(Table table, Long snapshot) throws Exception {
    IcebergGenerics.ScanBuilder scan = IcebergGenerics.read(table);
    if (snapshot != null) {
      scan = scan.useSnapshot(snapshot);
    }
    try (CloseableIterable<Record> rows = scan.build()) {
      for (Record row : rows) {
        StringJoiner line = new StringJoiner("\t");
        // By the row's own fields: an old snapshot has its old schema, and _pos may follow where deletes apply.
        for (Types.NestedField f : row.struct().fields()) {
          if (!f.name().equals("_pos")) {
            line.add(f.name() + "=" + text(row.getField(f.name())));
          }
        }
        OUT.println(line);
      }
    }
  }

  private static void files(Table table) throws Exception {
    try (CloseableIterable<FileScanTask> tasks = table.newScan().planFiles()) {
      for (FileScanTask t : tasks) {
        OUT.println(t.file().location() + "\t" + t.file().recordCount() + "\t" + t.file().firstRowId() + "\t" + t.deletes().size());
      }
    }
  }

  public static void main(String[] args) throws Exception {
    java.util.Scanner in = new java.util.Scanner(System.in, StandardCharsets.UTF_8);
    while (in.hasNextLine()) {
      String[] words = in.nextLine().split("\t");
      try {
        Table table = load(words[1], words[2]);
        switch (words[0]) {
          case "scan" -> scan(table, words.length > 3 ? Long.valueOf(words[3]) : null);
          case "files" -> files(table);
          case "snapshots" -> {
            for (Snapshot s : table.snapshots()) {
              OUT.println(s.snapshotId() + "\t" + s.sequenceNumber());
            }
          }
          case "rewrite" -> table.rewriteManifests().clusterBy(file -> "one").commit();
          case "compact" -> Foreign.compact(table, true);
          case "compact_files" -> Foreign.compact(table, false);
          case "delete" -> Foreign.delete(table, words[3], words[4]);
          case "partition" -> Foreign.partition(table, words[3]);
          default -> throw new IllegalArgumentException(words[0]);
        }
        OUT.println(".");
      } catch (Throwable e) {
        OUT.println("! " + e.toString().replace('\n', ' '));
      }
      OUT.flush();
    }
  }
}

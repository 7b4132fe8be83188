package tailrace;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.BaseTable;
import org.apache.iceberg.DataFile;
import org.apache.iceberg.DeleteFile;
import org.apache.iceberg.FileFormat;
import org.apache.iceberg.HasTableOperations;
import org.apache.iceberg.PartitionSpec;
import org.apache.iceberg.RowDelta;
import org.apache.iceberg.Snapshot;
import org.apache.iceberg.SnapshotChanges;
import org.apache.iceberg.StaticTableOperations;
import org.apache.iceberg.Table;
import org.apache.iceberg.TableProperties;
import org.apache.iceberg.data.BaseDeleteLoader;
import org.apache.iceberg.data.GenericFileWriterFactory;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.data.parquet.GenericParquetReaders;
import org.apache.iceberg.deletes.DeleteGranularity;
import org.apache.iceberg.deletes.PositionDelete;
import org.apache.iceberg.deletes.PositionDeleteIndex;
import org.apache.iceberg.hadoop.HadoopFileIO;
import org.apache.iceberg.hadoop.HadoopTables;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.io.DataWriter;
import org.apache.iceberg.io.DeleteWriteResult;
import org.apache.iceberg.io.FanoutPositionOnlyDeleteWriter;
import org.apache.iceberg.io.OutputFileFactory;
import org.apache.iceberg.parquet.Parquet;

/**
 * Writes a table of another writer anew, commit by commit, as Iceberg's own library does merge-on-read: new data files for the
 * rows of a commit, and for each data file that loses rows one position-delete file of format 2, in which those of the data
 * file's previous one are written again and which takes its place. All writers and settings are the library's own.
 *
 *   MergeOnRead METADATA SNAPSHOT FOLDER
 *
 * METADATA: of the table to follow, whose only key is a long, its first column, and which only appends and updates. SNAPSHOT:
 * what is appended first, in one commit; each later snapshot is a commit of its own. FOLDER: of the new table. Prints the
 * location of the new table's metadata.
 */
public class MergeOnRead {
  private static final long FILE_BYTES = TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT;
  private static final int POSITION_BITS = 40;

  /** Where each key's row is: file number and position. Keys above zero; open addressing, a long each. */
  private static class Places {
    private long[] keys = new long[1 << 20];
    private long[] places = new long[1 << 20];
    private int count;

    /** Sets the key's place; the one before, or -1. */
    long put(long key, long place) {
      if (key <= 0) {
        throw new IllegalArgumentException("key " + key);
      }
      if (count * 2 >= keys.length) {
        grow();
      }
      int at = slot(key);
      long before = keys[at] == key ? places[at] : -1;
      count += keys[at] == key ? 0 : 1;
      keys[at] = key;
      places[at] = place;
      return before;
    }

    private int slot(long key) {
      int at = (int) (key * 0x9E3779B97F4A7C15L >>> 32) & keys.length - 1;
      while (keys[at] != 0 && keys[at] != key) {
        at = at + 1 & keys.length - 1;
      }
      return at;
    }

    private void grow() {
      long[] oldKeys = keys;
      long[] oldPlaces = places;
      keys = new long[oldKeys.length * 2];
      places = new long[oldKeys.length * 2];
      for (int i = 0; i < oldKeys.length; i++) {
        if (oldKeys[i] != 0) {
          int at = slot(oldKeys[i]);
          keys[at] = oldKeys[i];
          places[at] = oldPlaces[i];
        }
      }
    }
  }

  private final Table from;
  private final Table to;
  private final Places places = new Places();
  private final List<String> files = new ArrayList<>();
  private final Map<String, DeleteFile> deletes = new HashMap<>(); // by data file: the live one
  private final GenericFileWriterFactory writers;
  private final OutputFileFactory names;

  private MergeOnRead(Table from, Table to) {
    this.from = from;
    this.to = to;
    this.writers = new GenericFileWriterFactory.Builder(to).build();
    this.names = OutputFileFactory.builderFor(to, 1, 1).format(FileFormat.PARQUET).build();
  }

  /** Writes the rows; the places that their keys had before. */
  private long[] write(Iterable<Record> rows, List<DataFile> written) throws IOException {
    long[] dead = new long[1 << 16];
    int deadCount = 0;
    DataWriter<Record> writer = null;
    long position = 0;
    for (Record row : rows) {
      if (writer == null) {
        writer = writers.newDataWriter(names.newOutputFile(), to.spec(), null);
        files.add(""); // known when it ends
        position = 0;
      }
      long before = places.put((Long) row.get(0), (long) (files.size() - 1) << POSITION_BITS | position);
      if (before >= 0) {
        dead = deadCount == dead.length ? Arrays.copyOf(dead, deadCount * 2) : dead;
        dead[deadCount++] = before;
      }
      writer.write(row);
      if (++position % 1000 == 0 && writer.length() >= FILE_BYTES) {
        written.add(end(writer));
        writer = null;
      }
    }
    if (writer != null) {
      written.add(end(writer));
    }
    return Arrays.copyOf(dead, deadCount);
  }

  private DataFile end(DataWriter<Record> writer) throws IOException {
    writer.close();
    DataFile file = writer.toDataFile();
    files.set(files.size() - 1, file.location());
    return file;
  }

  private PositionDeleteIndex previous(CharSequence dataFile) {
    DeleteFile file = deletes.get(dataFile.toString());
    return file == null ? null
        : new BaseDeleteLoader(f -> to.io().newInputFile(f)).loadPositionDeletes(List.of(file), dataFile);
  }

  private DeleteWriteResult delete(long[] dead) throws IOException {
    FanoutPositionOnlyDeleteWriter<Record> writer = new FanoutPositionOnlyDeleteWriter<>(
        writers, names, to.io(), FILE_BYTES, DeleteGranularity.FILE, this::previous);
    PositionDelete<Record> one = PositionDelete.create();
    try (writer) {
      for (long place : dead) {
        String file = files.get((int) (place >>> POSITION_BITS));
        writer.write(one.set(file, place & (1L << POSITION_BITS) - 1), to.spec(), null);
      }
    }
    return writer.result();
  }

  private Iterable<Record> added(Snapshot snapshot) {
    List<CloseableIterable<Record>> parts = new ArrayList<>();
    for (DataFile file : SnapshotChanges.builderFor(from).snapshot(snapshot).build().addedDataFiles()) {
      parts.add(Parquet.read(from.io().newInputFile(file.location())).project(from.schema())
          .createReaderFunc(schema -> GenericParquetReaders.buildReader(from.schema(), schema)).build());
    }
    return CloseableIterable.concat(parts);
  }

  private void run(long first) throws IOException {
    List<DataFile> written = new ArrayList<>();
    try (CloseableIterable<Record> rows = IcebergGenerics.read(from).useSnapshot(first).build()) {
      write(rows, written);
    }
    var append = to.newAppend();
    written.forEach(append::appendFile);
    append.commit();
    List<Snapshot> later = new ArrayList<>();
    from.snapshots().forEach(later::add);
    later.removeIf(s -> s.sequenceNumber() <= from.snapshot(first).sequenceNumber());
    later.sort(Comparator.comparingLong(Snapshot::sequenceNumber));
    for (Snapshot snapshot : later) {
      written.clear();
      DeleteWriteResult result = delete(write(added(snapshot), written));
      RowDelta commit = to.newRowDelta();
      written.forEach(commit::addRows);
      result.deleteFiles().forEach(commit::addDeletes);
      result.rewrittenDeleteFiles().forEach(commit::removeDeletes);
      commit.commit();
      for (DeleteFile file : result.deleteFiles()) {
        deletes.put(file.referencedDataFile(), file);
      }
    }
  }

  public static void main(String[] args) throws Exception {
    Configuration conf = new Configuration(false);
    Table from = new BaseTable(new StaticTableOperations(args[0], new HadoopFileIO(conf)), "from");
    Table to = new HadoopTables(conf).create(from.schema(), PartitionSpec.unpartitioned(),
        Map.of(TableProperties.FORMAT_VERSION, "2"), args[2]);
    try {
      new MergeOnRead(from, to).run(Long.parseLong(args[1]));
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
    to.refresh();
    System.out.println(((HasTableOperations) to).operations().current().metadataFileLocation());
  }
}

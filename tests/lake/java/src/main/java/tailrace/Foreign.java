package tailrace;

import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.iceberg.DataFile;
import org.apache.iceberg.DeleteFile;
import org.apache.iceberg.FileFormat;
import org.apache.iceberg.FileScanTask;
import org.apache.iceberg.HasTableOperations;
import org.apache.iceberg.PartitionKey;
import org.apache.iceberg.PartitionSpec;
import org.apache.iceberg.RewriteFiles;
import org.apache.iceberg.RowDelta;
import org.apache.iceberg.Snapshot;
import org.apache.iceberg.StructLike;
import org.apache.iceberg.Table;
import org.apache.iceberg.data.BaseDeleteLoader;
import org.apache.iceberg.data.GenericFileWriterFactory;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.InternalRecordWrapper;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.data.parquet.GenericParquetReaders;
import org.apache.iceberg.deletes.BaseDVFileWriter;
import org.apache.iceberg.deletes.PositionDelete;
import org.apache.iceberg.deletes.PositionDeleteIndex;
import org.apache.iceberg.deletes.PositionDeleteWriter;
import org.apache.iceberg.io.CloseableIterable;
import org.apache.iceberg.io.DataWriteResult;
import org.apache.iceberg.io.DeleteWriteResult;
import org.apache.iceberg.io.FanoutDataWriter;
import org.apache.iceberg.io.OutputFileFactory;
import org.apache.iceberg.parquet.Parquet;

/**
 * What other programs do to a table while tailrace writes to it, one commit each, by Iceberg's own library. Commands of Scan.
 *
 *   compact        every live row in one new data file a partition, which takes the place of all data and delete files
 *   compact_files  the same, but delete files stay, as engines leave them that rewrite only data files: they name files
 *                  that are gone, and the new ones have the sequence number of the snapshot that was read
 *   delete COLUMN VALUE   rows whose column has that value (as Java's toString says it), by position or deletion vector
 *   partition TEXT        one more field of the spec: identity of that column, of what is written from now on
 */
final class Foreign {
  private static final long FILE_BYTES = 1L << 30;

  private Foreign() {
  }

  private static List<FileScanTask> tasks(Table table) throws IOException {
    List<FileScanTask> found = new ArrayList<>();
    try (CloseableIterable<FileScanTask> tasks = table.newScan().planFiles()) {
      tasks.forEach(found::add);
    }
    return found;
  }

  private static List<DataFile> write(Table table) throws IOException {
    PartitionSpec spec = table.spec();
    OutputFileFactory names = OutputFileFactory.builderFor(table, 1, 1).format(FileFormat.PARQUET).build();
    FanoutDataWriter<Record> writer = new FanoutDataWriter<>(
        new GenericFileWriterFactory.Builder(table).build(), names, table.io(), FILE_BYTES);
    InternalRecordWrapper wrapper = new InternalRecordWrapper(table.schema().asStruct());
    PartitionKey key = new PartitionKey(spec, table.schema());
    try (writer; CloseableIterable<Record> rows = IcebergGenerics.read(table).build()) {
      for (Record row : rows) {
        key.partition(wrapper.wrap(row));
        writer.write(row, spec, key);
      }
    }
    DataWriteResult result = writer.result();
    return result.dataFiles();
  }

  static void compact(Table table, boolean withDeletes) throws IOException {
    Snapshot now = table.currentSnapshot();
    RewriteFiles commit = table.newRewrite().validateFromSnapshot(now.snapshotId());
    Set<String> dropped = new HashSet<>();
    for (FileScanTask task : tasks(table)) {
      commit.deleteFile(task.file());
      for (DeleteFile file : task.deletes()) {
        // Deletion vectors of one Puffin file share its location.
        if (withDeletes && dropped.add(file.location() + " " + file.contentOffset())) {
          commit.deleteFile(file);
        }
      }
    }
    write(table).forEach(commit::addFile);
    if (!withDeletes) {
      commit.dataSequenceNumber(now.sequenceNumber());
    }
    commit.commit();
  }

  static void delete(Table table, String column, String value) throws IOException {
    boolean vectors = ((HasTableOperations) table).operations().current().formatVersion() >= 3;
    OutputFileFactory names = OutputFileFactory.builderFor(table, 1, 1)
        .format(vectors ? FileFormat.PUFFIN : FileFormat.PARQUET).build();
    GenericFileWriterFactory writers = new GenericFileWriterFactory.Builder(table).build();
    RowDelta commit = table.newRowDelta().validateFromSnapshot(table.currentSnapshot().snapshotId());
    Map<String, DeleteFile> before = new HashMap<>();
    BaseDVFileWriter vectorWriter = new BaseDVFileWriter(names, path -> previous(table, before.get(path), path));
    for (FileScanTask task : tasks(table)) {
      List<Long> positions = positions(table, task.file(), column, value);
      if (positions.isEmpty()) {
        continue;
      }
      StructLike partition = task.file().partition();
      if (vectors) {
        task.deletes().forEach(file -> before.put(task.file().location(), file));
        positions.forEach(at -> vectorWriter.delete(task.file().location(), at, task.spec(), partition));
        continue;
      }
      PositionDeleteWriter<Record> writer = writers.newPositionDeleteWriter(
          task.spec().isPartitioned() ? names.newOutputFile(task.spec(), partition) : names.newOutputFile(), task.spec(), partition);
      PositionDelete<Record> one = PositionDelete.create();
      try (writer) {
        positions.forEach(at -> writer.write(one.set(task.file().location(), at)));
      }
      commit.addDeletes(writer.toDeleteFile());
    }
    vectorWriter.close();
    DeleteWriteResult result = vectorWriter.result();
    result.deleteFiles().forEach(commit::addDeletes);
    result.rewrittenDeleteFiles().forEach(commit::removeDeletes);
    commit.commit();
  }

  private static PositionDeleteIndex previous(Table table, DeleteFile file, String path) {
    return file == null ? null
        : new BaseDeleteLoader(f -> table.io().newInputFile(f)).loadPositionDeletes(List.of(file), path);
  }

  private static List<Long> positions(Table table, DataFile file, String column, String value) throws IOException {
    List<Long> found = new ArrayList<>();
    long at = 0;
    try (CloseableIterable<Record> rows = Parquet.read(table.io().newInputFile(file.location())).project(table.schema())
        .createReaderFunc(schema -> GenericParquetReaders.buildReader(table.schema(), schema)).build()) {
      for (Record row : rows) {
        if (String.valueOf(row.getField(column)).equals(value)) {
          found.add(at);
        }
        at++;
      }
    }
    return found;
  }

  static void partition(Table table, String column) {
    table.updateSpec().addField(column).commit();
  }
}

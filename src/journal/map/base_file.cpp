#include "journal/map/base_file.h"

#include "journal/format/wire.h"

namespace hf::journal {

Result<BaseFile> read_base_file(Storage& storage, FileId file, const BaseEntry& entry,
                                const crypto::PublicKey& key, const LineEnd& since) {
  const uint64_t size = TRY(storage.size(file));
  if (entry.table_entries > size / kExtentEntrySize || entry.table_offset > size ||
      entry.table_offset < kBaseHeaderSize ||
      entry.table_offset + entry.table_entries * kExtentEntrySize + kBaseFooterSize > size) {
    return corrupt("the file is cut short");
  }
  std::array<std::byte, kBaseHeaderSize> head;
  TRY(storage.read_now(file, 0, head));
  BaseFile base;
  base.table.resize(static_cast<size_t>(entry.table_entries) * kExtentEntrySize);
  TRY(storage.read_now(file, entry.table_offset, base.table));
  std::array<std::byte, kBaseFooterSize> foot;
  TRY(storage.read_now(file, entry.table_offset + base.table.size(), foot));
  if (crypto::sha256(foot) != entry.footer_digest) {
    return corrupt("base footer differs from MANIFEST");
  }
  base.footer = TRY(decode_base_footer(foot, key));
  if (TRY(decode_base_header(head)) != base.footer.header) return corrupt("base header differs");
  if (base.footer.table_offset != entry.table_offset ||
      base.footer.table_entries != entry.table_entries ||
      base.footer.table_digest != crypto::sha256(base.table)) {
    return corrupt("base table differs from its footer");
  }
  if (base.footer.since != since) {
    return corrupt("base file does not begin where the one before it ends");
  }
  return base;
}

}  // namespace hf::journal

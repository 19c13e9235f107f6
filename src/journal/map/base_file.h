// A base file as it lies on the disk: what can be known of it without the key.
#pragma once

#include "base/storage.h"
#include "journal/map/base_format.h"

namespace hf::journal {

struct BaseFile {
  BaseFooter footer;
  Bytes table;  // encoded entries
};

// Header, table and footer, checked against each other, against MANIFEST's entry, against the
// signature by the VM's journal key, and to begin where the base before it ends. Blocking.
// kCorrupt names what differs. The runs themselves are not read.
Result<BaseFile> read_base_file(Storage& storage, FileId file, const BaseEntry& entry,
                                const crypto::PublicKey& key, const LineEnd& since);

}  // namespace hf::journal

// What a map's footer says of it, and the signature of the VM's journal key: which records it is
// the outcome of, and (by the root's hash, which the footer holds) every entry.
#pragma once

#include "crypto/crypto.h"
#include "journal/chain/schedule.h"
#include "journal/format/lineage.h"
#include "journal/table/format.h"

namespace hf::journal {

inline constexpr std::string_view kMapLabel = "holdfast journal map v1";

struct LineClose {  // a segment's end; zeroes before the first
  LineEnd end;
  Digest close;
  bool operator==(const LineClose&) const = default;
};

struct MapStatement {
  VmId vm;
  KeyVersion key_version;
  SegmentRun run;
  LineClose begin;  // at run.a
  LineClose end;    // at run.b
  bool operator==(const MapStatement&) const = default;
};
inline constexpr size_t kMapStatementSize = 248;

// Puts statement and signature into the footer's attachment.
void sign_map(const MapStatement& statement, const crypto::SigningKey& key, TableFooter& footer);
// The statement, if the footer of a map holds one that `key` signed for these very entries.
Result<MapStatement> check_map(const TableFooter& footer, const crypto::PublicKey& key);

}  // namespace hf::journal

#include "journal/table/writer.h"

#include "crypto/crypto.h"

namespace hf::journal {

PageReference PageStacker::write(const TableKey& first, ByteSpan bytes) {
  HF_ASSERT(bytes.size() <= kTablePageMax);
  const PageReference reference{.first = first,
                                .offset = written_,
                                .length = static_cast<uint32_t>(bytes.size()),
                                .hash = crypto::sha256(bytes)};
  sink_.take(bytes);
  written_ += bytes.size();
  return reference;
}

void PageStacker::add_block(const TableKey& first, ByteSpan block, ByteSpan filter) {
  add(0, write(first, block), filter);
}

void PageStacker::add(size_t level, const PageReference& reference, ByteSpan filter) {
  HF_ASSERT(level < kTableLevelMax);
  if (levels_.size() == level) levels_.emplace_back();
  Level& to = levels_[level];
  const size_t size = kPageReferenceSize + filter.size();
  if (to.count > 0 && to.page.size() + size > kTablePageMax) {
    add(level + 1, write_page(level), {});
  }
  if (to.count == 0) {
    to.first = reference.first;
    to.page.assign(kPageHeaderSize, std::byte{0});
  }
  const size_t at = to.page.size();
  to.page.resize(at + size);
  FieldWriter out(MutableByteSpan(to.page).subspan(at));
  out.number(reference.first.major);
  out.number(reference.first.minor);
  out.number(reference.offset);
  out.number(reference.length);
  out.number(static_cast<uint32_t>(filter.size()));
  out.bytes(reference.hash.span());
  out.bytes(filter);
  ++to.count;
}

PageReference PageStacker::write_page(size_t level) {
  Level& from = levels_[level];
  HF_ASSERT(from.count > 0);
  from.page[0] = static_cast<std::byte>(level + 1);
  store_le(from.page.data() + 2, from.count);
  from.count = 0;
  return write(from.first, from.page);
}

TableFooter PageStacker::finish(TableKind kind, uint64_t entries) {
  TableFooter footer{.kind = kind, .entries = entries};
  for (size_t level = 0; level < levels_.size(); ++level) {
    const PageReference page = write_page(level);
    if (level + 1 < levels_.size()) {
      add(level + 1, page, {});
      continue;
    }
    footer.root = page;
    footer.levels = static_cast<uint8_t>(level + 1);
  }
  footer.length = written_ + kTableFooterSize;
  return footer;
}

}  // namespace hf::journal

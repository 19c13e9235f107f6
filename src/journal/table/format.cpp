#include "journal/table/format.h"

#include <algorithm>

#include "crypto/crypto.h"
#include "journal/format/wire.h"

namespace hf::journal {

namespace {
constexpr size_t kDigestSize = 32;
constexpr size_t kFooterDigestAt = kTableFooterSize - kDigestSize;
static_assert(kTableAttachmentAt + kTableAttachmentMax == kFooterDigestAt);

void put_key(FieldWriter& out, const TableKey& key) {
  out.number(key.major);
  out.number(key.minor);
}
TableKey get_key(FieldReader& in) {
  TableKey key;
  key.major = in.number<uint64_t>();
  key.minor = in.number<uint64_t>();
  return key;
}
}  // namespace

//   0 magic, version, kind · 8 length · 16 entries · 24 levels (1), zero (3), attachment's length
//   (4) 32 root: first key (16), offset (8), length (4), zero (4), SHA-256 (32) · 96 attachment 480
//   SHA-256 of all before
Bytes encode_table_footer(const TableFooter& footer) {
  HF_ASSERT(footer.attachment.size() <= kTableAttachmentMax);
  Bytes bytes(kTableFooterSize);
  FieldWriter out(bytes);
  out.number(kTableMagic);
  out.number(kTableVersion);
  out.number(static_cast<uint16_t>(footer.kind));
  out.number(footer.length);
  out.number(footer.entries);
  out.number(footer.levels);
  out.zeroes(3);
  out.number(static_cast<uint32_t>(footer.attachment.size()));
  put_key(out, footer.root.first);
  out.number(footer.root.offset);
  out.number(footer.root.length);
  out.zeroes(4);
  out.bytes(footer.root.hash.span());
  HF_ASSERT(out.at() == kTableAttachmentAt);
  out.bytes(footer.attachment);
  out.zeroes_to(kFooterDigestAt);
  out.bytes(crypto::sha256(ByteSpan(bytes).first(kFooterDigestAt)).span());
  return bytes;
}

Result<TableFooter> decode_table_footer(ByteSpan from) {
  if (from.size() != kTableFooterSize) return corrupt("a table's footer is cut short");
  FieldReader in(from);
  if (in.number<uint32_t>() != kTableMagic) return corrupt("not a table");
  if (in.number<uint16_t>() != kTableVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a table of another version"};
  }
  const Digest digest = crypto::sha256(from.first(kFooterDigestAt));
  if (!crypto::constant_time_equal(digest.span(), from.subspan(kFooterDigestAt))) {
    return corrupt("a table's footer: its digest differs");
  }
  TableFooter footer;
  const auto kind = in.number<uint16_t>();
  if (kind < 1 || kind > 3) return corrupt("a table of an unknown kind");
  footer.kind = static_cast<TableKind>(kind);
  footer.length = in.counted();
  footer.entries = in.counted();
  footer.levels = in.number<uint8_t>();
  bool zero = in.zeroes(3);
  const auto attachment = in.number<uint32_t>();
  footer.root.first = get_key(in);
  footer.root.offset = in.counted();
  footer.root.length = in.number<uint32_t>();
  zero = in.zeroes(4) && zero;
  footer.root.hash = in.id<Digest>();
  if (!in.in_range() || !zero || attachment > kTableAttachmentMax ||
      footer.levels > kTableLevelMax) {
    return corrupt("a table's footer: a field is not one");
  }
  const ByteSpan said = in.bytes(attachment);
  footer.attachment.assign(said.begin(), said.end());
  if (!in.zeroes_to(kFooterDigestAt)) return corrupt("a table's footer: a field is not one");
  const bool empty = footer.entries == 0;
  const uint64_t body = footer.length - std::min<uint64_t>(footer.length, kTableFooterSize);
  const bool fits = empty ? footer.levels == 0 && footer.root == PageReference{} && body == 0
                          : footer.levels > 0 && footer.root.length > kPageHeaderSize &&
                                footer.root.length <= kTablePageMax &&
                                footer.root.offset + footer.root.length == body;
  if (!fits || footer.length < kTableFooterSize) {
    return corrupt("a table's footer: its numbers do not fit each other");
  }
  return footer;
}

Result<Page> Page::parse(ByteSpan bytes, uint8_t level, uint64_t offset) {
  if (bytes.size() < kPageHeaderSize) return corrupt("a page is cut short");
  FieldReader in(bytes);
  if (in.number<uint8_t>() != level || in.number<uint8_t>() != 0) {
    return corrupt("a page of another level");
  }
  const auto count = in.number<uint16_t>();
  if (!in.zeroes(4) || count == 0) return corrupt("a page: its header is not one");
  Page page;
  page.bytes_ = bytes;
  page.starts_.reserve(count);
  uint64_t begin = 0;
  for (uint16_t i = 0; i < count; ++i) {
    if (in.left() < kPageReferenceSize) return corrupt("a page is cut short");
    page.starts_.push_back(static_cast<uint32_t>(in.at()));
    const TableKey first = get_key(in);
    const auto at = in.number<uint64_t>();
    const auto length = in.number<uint32_t>();
    const auto filter = in.number<uint32_t>();
    in.bytes(kDigestSize);
    if (i > 0 && first <= page.first(i - 1u)) return corrupt("a page: its keys are out of order");
    if (length > kTablePageMax || length == 0 || at < begin || at > offset ||
        length > offset - at) {
      return corrupt("a page leads out of the table");
    }
    begin = at + length;
    if (filter > kFilterMax || filter % 8 != 0 || (level > 1 && filter != 0) ||
        filter > in.left()) {
      return corrupt("a page: a filter does not fit");
    }
    in.bytes(filter);
  }
  if (in.left() != 0) return corrupt("a page: more bytes than it says");
  return page;
}

TableKey Page::first(size_t index) const {
  const std::byte* at = bytes_.data() + starts_[index];
  return {.major = load_le<uint64_t>(at), .minor = load_le<uint64_t>(at + 8)};
}

PageReference Page::reference(size_t index) const {
  FieldReader in(bytes_.subspan(starts_[index], kPageReferenceSize));
  PageReference reference;
  reference.first = get_key(in);
  reference.offset = in.number<uint64_t>();
  reference.length = in.number<uint32_t>();
  in.bytes(4);
  reference.hash = in.id<Digest>();
  return reference;
}

ByteSpan Page::filter(size_t index) const {
  const auto length = load_le<uint32_t>(bytes_.data() + starts_[index] + 28);
  return bytes_.subspan(starts_[index] + kPageReferenceSize, length);
}

size_t Page::find(const TableKey& key) const {
  size_t low = 0;
  size_t high = count();
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (first(middle) <= key ? low : high) = middle;
  }
  return low;
}

}  // namespace hf::journal

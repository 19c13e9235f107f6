// A chain as the vault stores it, and bundles of statements between sites (docs/formats/title.md).
#include <algorithm>

#include "title/chain.h"
#include "title/wire.h"

namespace hf::title {
namespace {

// chain:  magic, version, flags (bit 0: in doubt), rivals; vm, head, ended, statements, zero
// bundle: magic, version, zero, statements, zero
constexpr uint32_t kChainMagic = 0x43544648;   // "HFTC"
constexpr uint32_t kBundleMagic = 0x42544648;  // "HFTB"
constexpr uint16_t kVersion = 1;
constexpr size_t kChainFixedSize = 72;
constexpr size_t kBundleFixedSize = 16;
constexpr uint8_t kInDoubtFlag = 1;
static_assert(kChainSizeMax >= kChainFixedSize + kRivalsMax * sizeof(Digest) +
                                   kStatementsMax * (4 + kSignedSizeMax));
static_assert(kBundleSizeMax == kBundleFixedSize + kBundleMax * (4 + kSignedSizeMax));

Error corrupt(const char* what) { return {.code = ErrorCode::kCorrupt, .cause = what}; }

void append_statement(Bytes& to, const Signed& statement) {
  const Bytes bytes = statement.encode();
  const size_t at = to.size();
  to.resize(at + 4 + bytes.size());
  store_le(to.data() + at, static_cast<uint32_t>(bytes.size()));
  std::ranges::copy(bytes, to.begin() + static_cast<ptrdiff_t>(at + 4));
}

Result<SignedPtr> next_statement(FieldReader& in) {
  if (in.left() < 4) return corrupt("a statement that is cut off");
  const size_t size = in.number<uint32_t>();
  if (size > kSignedSizeMax || size > in.left()) return corrupt("a statement of impossible size");
  return Signed::decode(in.bytes(size));
}

}  // namespace

Bytes encode_bundle(std::span<const SignedPtr> bundle) {
  HF_ASSERT(bundle.size() <= kBundleMax);
  Bytes bytes(kBundleFixedSize);
  FieldWriter out(bytes);
  out.number(kBundleMagic);
  out.number(kVersion);
  out.zeroes(2);
  out.number(static_cast<uint32_t>(bundle.size()));
  out.zeroes(4);
  for (const SignedPtr& statement : bundle) append_statement(bytes, *statement);
  return bytes;
}

Result<std::vector<SignedPtr>> decode_bundle(ByteSpan bytes) {
  if (bytes.size() < kBundleFixedSize) return corrupt("a bundle of statements that is too short");
  FieldReader in(bytes);
  if (in.number<uint32_t>() != kBundleMagic) return corrupt("no bundle of statements");
  if (in.number<uint16_t>() != kVersion) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a bundle of statements of another version"};
  }
  if (!in.zeroes(2)) return corrupt("a bundle with a reserved byte set");
  const size_t count = in.number<uint32_t>();
  if (!in.zeroes(4)) return corrupt("a bundle with a reserved byte set");
  if (count > kBundleMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "a bundle of too many statements"};
  }
  std::vector<SignedPtr> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(TRY(next_statement(in)));
  if (in.left() > 0) return corrupt("a bundle with bytes after its end");
  return out;
}

Bytes Chain::encode() const {
  Bytes bytes(kChainFixedSize + rivals_.size() * sizeof(Digest));
  FieldWriter out(bytes);
  out.number(kChainMagic);
  out.number(kVersion);
  out.number(static_cast<uint8_t>(in_doubt_ ? kInDoubtFlag : 0));
  out.number(static_cast<uint8_t>(rivals_.size()));
  out.bytes(vm_.span());
  out.bytes(empty() ? Digest{}.span() : digest().span());
  out.number(ended_.value);
  out.number(static_cast<uint32_t>(nodes_.size()));
  out.zeroes(4);
  HF_ASSERT(out.at() == kChainFixedSize);
  for (const SignedPtr& rival : rivals()) out.bytes(rival->digest().span());
  for (const Node& node : nodes_) append_statement(bytes, *node.statement);
  HF_ASSERT(bytes.size() <= kChainSizeMax);
  return bytes;
}

Result<Chain> Chain::decode(ByteSpan bytes, const SiteId& self, const Faults& faults) {
  if (bytes.size() < kChainFixedSize) return corrupt("a title that is too short");
  FieldReader in(bytes);
  if (in.number<uint32_t>() != kChainMagic) return corrupt("no title");
  if (in.number<uint16_t>() != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "a title of another version"};
  }
  const auto flags = in.number<uint8_t>();
  const size_t rival_count = in.number<uint8_t>();
  Chain chain(in.id<VmId>(), self, faults);
  const auto head = in.id<Digest>();
  chain.ended_ = Micros(in.number<uint64_t>());
  const size_t count = in.number<uint32_t>();
  if (!in.zeroes(4) || (flags & ~kInDoubtFlag) != 0) {
    return corrupt("a title with a reserved byte set");
  }
  if (rival_count > kRivalsMax || count > kStatementsMax ||
      in.left() < rival_count * sizeof(Digest) || chain.ended_.value > kNumberMax) {
    return corrupt("a title of impossible size");
  }
  chain.in_doubt_ = flags != 0;
  std::vector<Digest> rivals(rival_count);
  for (Digest& rival : rivals) rival = in.id<Digest>();
  for (size_t i = 0; i < count; ++i) {
    const SignedPtr statement = TRY(next_statement(in));
    const Statement& s = statement->statement();
    const int32_t follows = s.kind == Kind::kCreate ? -1 : chain.index(s.follows);
    const int32_t beside = s.beside.is_zero() ? -1 : chain.index(s.beside);
    if (chain.index(statement->digest()) >= 0) return corrupt("a title with a statement twice");
    if (s.kind == Kind::kCreate
            ? i != 0 || chain.wrong_create(*statement).has_value()
            : follows < 0 || s.vm != chain.vm_ || (beside < 0) != s.beside.is_zero() ||
                  chain.wrong_step(*statement, follows, beside).has_value()) {
      return corrupt("a title with a statement that doesn't fit those before");
    }
    chain.insert(statement, follows, beside);
  }
  if (in.left() > 0) return corrupt("a title with bytes after its end");
  chain.head_ = chain.index(head);
  if ((chain.head_ < 0) != (count == 0) || (count == 0 && !head.is_zero())) {
    return corrupt("a title whose head is none of its statements");
  }
  for (size_t i = 0; i < rivals.size(); ++i) {
    if (i > 0 && rivals[i - 1] >= rivals[i]) return corrupt("a title with rivals out of order");
    const int32_t at = chain.index(rivals[i]);
    if (at < 0 || chain.follows_at(at, chain.head_) || chain.follows_at(chain.head_, at)) {
      return corrupt("a title whose rivals are none");
    }
    chain.rivals_.push_back(at);
  }
  return chain;
}

}  // namespace hf::title

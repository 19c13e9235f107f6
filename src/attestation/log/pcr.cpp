#include "attestation/log/pcr.h"

#include <openssl/evp.h>

#include <algorithm>

namespace hf::attestation {
namespace {

struct AlgFacts {
  HashAlg alg;
  size_t size;
  std::string_view name;
  const char* openssl_name;
};
constexpr std::array kFacts = {AlgFacts{HashAlg::kSha1, 20, "sha1", "SHA1"},
                               AlgFacts{HashAlg::kSha256, 32, "sha256", "SHA256"},
                               AlgFacts{HashAlg::kSha384, 48, "sha384", "SHA384"},
                               AlgFacts{HashAlg::kSha512, 64, "sha512", "SHA512"}};

const AlgFacts* facts_of(HashAlg alg) {
  auto found = std::ranges::find(kFacts, alg, &AlgFacts::alg);
  return found == kFacts.end() ? nullptr : &*found;
}

// Fetched once: an implicit fetch on every call costs more than the hash of a short message.
const EVP_MD* method_of(HashAlg alg) {
  static const auto kMethods = [] {
    std::array<EVP_MD*, kFacts.size()> methods{};
    for (size_t i = 0; i < kFacts.size(); ++i) {
      methods[i] = EVP_MD_fetch(nullptr, kFacts[i].openssl_name, nullptr);
      HF_ASSERT(methods[i] != nullptr);
    }
    return methods;
  }();
  const AlgFacts* facts = facts_of(alg);
  HF_ASSERT(facts != nullptr);
  return kMethods[static_cast<size_t>(facts - kFacts.data())];
}

struct MdContext {
  EVP_MD_CTX* raw = EVP_MD_CTX_new();
  MdContext() { HF_ASSERT(raw != nullptr); }
  ~MdContext() { EVP_MD_CTX_free(raw); }
  MdContext(const MdContext&) = delete;
  MdContext& operator=(const MdContext&) = delete;
};

}  // namespace

size_t size_of(HashAlg alg) {
  const AlgFacts* facts = facts_of(alg);
  return facts == nullptr ? 0 : facts->size;
}

std::string_view name_of(HashAlg alg) {
  const AlgFacts* facts = facts_of(alg);
  return facts == nullptr ? std::string_view{} : facts->name;
}

std::optional<HashAlg> parse_hash_alg(std::string_view name) {
  auto found = std::ranges::find(kFacts, name, &AlgFacts::name);
  if (found == kFacts.end()) return std::nullopt;
  return found->alg;
}

std::optional<HashAlg> known_hash_alg(uint16_t id) {
  auto alg = static_cast<HashAlg>(id);
  if (facts_of(alg) == nullptr) return std::nullopt;
  return alg;
}

bool equal(ByteSpan a, ByteSpan b) { return std::ranges::equal(a, b); }

HashValue hash(HashAlg alg, ByteSpan bytes) { return hash(alg, bytes, {}); }

HashValue hash(HashAlg alg, ByteSpan first, ByteSpan second) {
  thread_local MdContext context;
  HashValue value(size_of(alg));
  HF_ASSERT(EVP_DigestInit_ex2(context.raw, method_of(alg), nullptr) == 1);
  HF_ASSERT(EVP_DigestUpdate(context.raw, first.data(), first.size()) == 1);
  if (!second.empty()) HF_ASSERT(EVP_DigestUpdate(context.raw, second.data(), second.size()) == 1);
  auto* out = reinterpret_cast<unsigned char*>(value.bytes().data());
  HF_ASSERT(EVP_DigestFinal_ex(context.raw, out, nullptr) == 1);
  return value;
}

PcrBank::PcrBank(HashAlg alg, uint8_t startup_locality) : alg_(alg), size_(size_of(alg)) {
  HF_ASSERT(size_ > 0);
  for (uint32_t pcr = kDynamicPcrFirst; pcr <= kDynamicPcrLast; ++pcr) {
    std::fill_n(values_[pcr].begin(), size_, std::byte{0xff});
  }
  values_[0][size_ - 1] = std::byte{startup_locality};
}

ByteSpan PcrBank::value(uint32_t pcr) const {
  HF_ASSERT(pcr < kPcrCount);
  return ByteSpan(values_[pcr]).first(size_);
}

void PcrBank::set(uint32_t pcr, ByteSpan value) {
  HF_ASSERT(pcr < kPcrCount && value.size() == size_);
  std::ranges::copy(value, values_[pcr].begin());
}

void PcrBank::extend(uint32_t pcr, ByteSpan digest) {
  HF_ASSERT(pcr < kPcrCount && digest.size() == size_);
  set(pcr, hash(alg_, value(pcr), digest).bytes());
}

void PcrBank::dynamic_launch() {
  for (uint32_t pcr = kDynamicPcrFirst; pcr <= kDynamicPcrLast; ++pcr) values_[pcr].fill({});
}

}  // namespace hf::attestation

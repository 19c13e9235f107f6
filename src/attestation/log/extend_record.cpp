#include "attestation/log/extend_record.h"

#include <fmt/format.h>

#include <algorithm>

namespace hf::attestation {
namespace {

Error bad(std::string cause) {
  return Error{.code = ErrorCode::kInvalidArgument, .cause = std::move(cause)};
}

Result<uint8_t> small_number(const sys::JsonObject& object, std::string_view name, uint64_t end) {
  uint64_t value = TRY(sys::get_u64(object, name));
  if (value >= end) return bad(fmt::format("member \"{}\" is {}, not below {}", name, value, end));
  return static_cast<uint8_t>(value);
}

struct KindName {
  PcrChange kind;
  std::string_view name;
};
constexpr KindName kKindNames[] = {{PcrChange::kExtend, "extend"},
                                   {PcrChange::kReset, "reset"},
                                   {PcrChange::kHcrtm, "hcrtm"},
                                   {PcrChange::kDrtm, "drtm"}};

Result<PcrChange> kind_from(const sys::JsonObject& object) {
  const std::string name = TRY(sys::get_string_or(object, "kind", "extend"));
  const auto* found = std::ranges::find(kKindNames, name, &KindName::name);
  if (found == std::end(kKindNames)) {
    return bad(fmt::format("\"{}\" is no change of a PCR", name.substr(0, 32)));
  }
  return found->kind;
}

Result<std::vector<PcrDigest>> digests_from(const sys::JsonObject& object) {
  std::vector<PcrDigest> digests;
  for (const auto& [name, value] : object) {
    std::string_view bank(name.data(), name.size());
    std::optional<HashAlg> alg = parse_hash_alg(bank);
    if (!alg) return bad(fmt::format("\"{}\" is not a bank", bank.substr(0, 32)));
    if (!value.is_string()) return bad(fmt::format("the {} digest is not a string", bank));
    std::string_view hex(value.get_string().data(), value.get_string().size());
    if (hex.size() != 2 * size_of(*alg)) {
      return bad(fmt::format("the {} digest has {} characters, not {}", bank, hex.size(),
                             2 * size_of(*alg)));
    }
    digests.push_back({.alg = *alg, .bytes = TRY(from_hex(hex))});
  }
  std::ranges::sort(digests, {}, &PcrDigest::alg);
  return digests;
}

// What a boot leaves in PCRs 0 to 15 stays until the next one: no change of another kind is
// believed there (TCG PC Client Platform TPM Profile, 4.6).
Status check_register(const Extend& extend) {
  bool right = extend.kind == PcrChange::kReset   ? extend.pcr >= 16
               : extend.kind == PcrChange::kHcrtm ? extend.pcr == 0
               : extend.kind == PcrChange::kDrtm  ? extend.pcr == kDynamicPcrFirst
                                                  : true;
  if (right) return {};
  return bad(fmt::format("PCR {} does not change in that way", extend.pcr));
}

Result<Extend> extend_from(const sys::JsonValue& value) {
  if (!value.is_object()) return bad("it is not an object");
  const sys::JsonObject& object = value.get_object();
  Extend extend;
  extend.n = TRY(sys::get_u64(object, "n"));
  extend.pcr = TRY(small_number(object, "pcr", kPcrCount));
  extend.locality = TRY(small_number(object, "locality", 256));
  extend.time = Micros(TRY(sys::get_u64(object, "time_us")));
  extend.kind = TRY(kind_from(object));
  extend.digests = TRY(digests_from(*TRY(sys::get_object(object, "digests"))));
  TRY(check_register(extend));
  if (extend.digests.empty() != (extend.kind == PcrChange::kReset)) {
    return bad(extend.digests.empty() ? "there is no digest" : "a reset has no digest");
  }
  return extend;
}

Status read_boot(const sys::JsonObject& boot, ExtendRecord& record) {
  record.boot_id = TRY(sys::get_string(boot, "id"));
  if (record.boot_id.size() != kBootIdHexSize || !from_hex(record.boot_id).ok()) {
    return bad(fmt::format("the boot's id is not {} hex digits", kBootIdHexSize));
  }
  record.started = Micros(TRY(sys::get_u64(boot, "started_us")));
  record.complete = TRY(sys::get_bool(boot, "complete"));
  if (sys::has_member(boot, "startup_locality")) {
    record.startup_locality = TRY(small_number(boot, "startup_locality", 5));
  }
  if (sys::has_member(boot, "exit_boot_services")) {
    record.exit_boot_services = TRY(sys::get_u64(boot, "exit_boot_services"));
  }
  if (sys::has_member(boot, "exit_us")) {
    record.exited = Micros(TRY(sys::get_u64(boot, "exit_us")));
  }
  return {};
}

}  // namespace

const PcrDigest* Extend::digest(HashAlg alg) const {
  auto found = std::ranges::find(digests, alg, &PcrDigest::alg);
  return found == digests.end() ? nullptr : &*found;
}

bool Extend::apply(PcrBank& bank) const {
  if (kind == PcrChange::kReset) {
    bank.set(pcr, Bytes(size_of(bank.alg())));
    return true;
  }
  const PcrDigest* value = digest(bank.alg());
  if (value == nullptr || value->bytes.size() != size_of(bank.alg())) return false;
  if (kind == PcrChange::kDrtm) bank.dynamic_launch();
  if (kind == PcrChange::kHcrtm) {
    Bytes start(size_of(bank.alg()));
    start.back() = std::byte{4};
    bank.set(pcr, start);
  }
  bank.extend(pcr, value->bytes);
  return true;
}

bool ExtendRecord::whole() const {
  return complete && extends.size() == total && (extends.empty() || extends.front().n == 0);
}

Result<ExtendRecord> extend_record_from(const sys::JsonObject& object) {
  ExtendRecord record;
  TRY(read_boot(*TRY(sys::get_object(object, "boot")), record));
  record.total = TRY(sys::get_u64(object, "total"));
  const sys::JsonArray& extends = *TRY(sys::get_array(object, "extends"));
  if (record.total > kExtendsMax || extends.size() > record.total) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("{} of {} extends, at most {} are taken", extends.size(),
                                      record.total, kExtendsMax)};
  }
  if (record.exit_boot_services && *record.exit_boot_services >= record.total) {
    return bad("\"exit_boot_services\" names an extend that the boot does not have");
  }
  record.extends.reserve(extends.size());
  for (const sys::JsonValue& value : extends) {
    Extend extend = TRY_CONTEXT(extend_from(value),
                                fmt::format("extend {} of the page", record.extends.size()));
    bool follows =
        record.extends.empty() ? extend.n < record.total : extend.n == record.extends.back().n + 1;
    if (!follows || extend.n >= record.total) {
      return bad(fmt::format("extend {} of the page has n = {}, out of order",
                             record.extends.size(), extend.n));
    }
    if (extend.kind == PcrChange::kHcrtm && extend.n != 0) {
      return bad("an H-CRTM after the first extend");
    }
    record.extends.push_back(std::move(extend));
  }
  return record;
}

Result<ExtendRecord> parse_extend_record(std::string_view json) {
  sys::JsonObject object =
      TRY(sys::parse_json_object(json, {.bytes_max = kExtendRecordJsonMax, .depth_max = 6}));
  return extend_record_from(object);
}

sys::JsonObject to_json(const Extend& extend) {
  sys::JsonObject digests;
  for (const PcrDigest& digest : extend.digests) {
    digests[name_of(digest.alg)] = to_hex(digest.bytes);
  }
  sys::JsonObject object;
  object["n"] = extend.n;
  object["pcr"] = extend.pcr;
  object["locality"] = extend.locality;
  object["time_us"] = extend.time.value;
  object["digests"] = std::move(digests);
  if (extend.kind != PcrChange::kExtend) {
    object["kind"] = std::ranges::find(kKindNames, extend.kind, &KindName::kind)->name;
  }
  return object;
}

sys::JsonObject to_json(const ExtendRecord& record) {
  sys::JsonObject boot;
  boot["id"] = record.boot_id;
  boot["started_us"] = record.started.value;
  boot["startup_locality"] = record.startup_locality;
  boot["exit_boot_services"] = nullptr;
  if (record.exit_boot_services) boot["exit_boot_services"] = *record.exit_boot_services;
  boot["exit_us"] = nullptr;
  if (record.exited) boot["exit_us"] = record.exited->value;
  boot["complete"] = record.complete;
  sys::JsonArray extends;
  extends.reserve(record.extends.size());
  for (const Extend& extend : record.extends) extends.push_back(to_json(extend));
  sys::JsonObject object;
  object["boot"] = std::move(boot);
  object["total"] = record.total;
  object["extends"] = std::move(extends);
  return object;
}

Status append_page(ExtendRecord& record, ExtendRecord page) {
  if (page.boot_id != record.boot_id || page.startup_locality != record.startup_locality) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "the VM was reset between two pages of its record of extends"};
  }
  uint64_t end = record.extends.empty() ? 0 : record.extends.back().n + 1;
  if (!page.extends.empty() && page.extends.front().n != end) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = fmt::format("a page begins with extend {}, {} was to come",
                                      page.extends.front().n, end)};
  }
  if (page.total < record.total) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = fmt::format("the record of extends went back from {} to {}", record.total,
                                      page.total)};
  }
  record.total = page.total;
  record.complete = page.complete;
  record.exit_boot_services = page.exit_boot_services;
  record.exited = page.exited;
  record.extends.insert(record.extends.end(), std::make_move_iterator(page.extends.begin()),
                        std::make_move_iterator(page.extends.end()));
  return {};
}

Result<PcrBank> replay(const ExtendRecord& record, HashAlg alg, std::optional<uint64_t> end) {
  bool from_start = record.extends.empty() ? record.total == 0 : record.extends.front().n == 0;
  bool far_enough = end ? record.extends.size() >= *end : record.extends.size() == record.total;
  if (!from_start || !far_enough) return bad("the record of extends is not whole");
  PcrBank bank(alg, record.startup_locality);
  for (const Extend& extend : record.extends) {
    if (end && extend.n >= *end) break;
    if (!extend.apply(bank)) {
      return Error{.code = ErrorCode::kNotFound,
                   .cause = fmt::format("extend {} has no {} digest", extend.n, name_of(alg))};
    }
  }
  return bank;
}

bool is_exit_boot_services(uint8_t pcr, const std::vector<PcrDigest>& digests) {
  if (pcr != 5 || digests.empty()) return false;
  return std::ranges::all_of(digests, [](const PcrDigest& digest) {
    if (size_of(digest.alg) == 0) return false;
    HashValue expected = hash(digest.alg, as_bytes("Exit Boot Services Invocation"));
    return equal(digest.bytes, expected.bytes());
  });
}

}  // namespace hf::attestation

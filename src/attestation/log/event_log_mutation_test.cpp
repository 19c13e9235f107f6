// Edited logs, by the ten thousand: what a digest covers, and what a PCR holds, cannot be edited
// unnoticed, and the event is named; what nothing covers changes no claim.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "attestation/boot/event_log_check.h"
#include "attestation/log/event_cover.h"
#include "attestation/log/event_data.h"
#include "attestation/testing/log_writer.h"

namespace hf::attestation {
namespace {

using enum HashAlg;
constexpr int kMutations = 10'000;  // of each kind

// A log as its machine's TPM saw it.
struct Truth {
  std::string name;
  Bytes bytes;
  EventLog log;
  ExtendRecord record;
  std::vector<PcrBank> banks;
  std::vector<KnownPcr> pcrs;
};

// All that anyone may say because of a log: per PCR, digests in order and the bytes they prove.
std::vector<std::string> claims_of(const EventLog& log) {
  std::vector<std::string> claims;
  for (const Event& event : log.events()) {
    if (!event.measured()) continue;
    std::string claim = std::to_string(event.pcr);
    for (const DigestView& digest : event.digests()) claim += " " + to_hex(digest.bytes);
    claim += " proves " + to_hex(event.cover.bytes);
    auto variable = efi_variable(event);
    if (variable && variable->name_covered) claim += " variable " + variable->name;
    if (variable && variable->data_covered) claim += " = " + to_hex(variable->data);
    if (auto text = ipl_text(event); text && text->covered) claim += " text " + text->text;
    if (auto action = action_text(event)) claim += " action " + std::string(*action);
    if (auto table = gpt_table(event)) claim += " disk " + table->disk.text();
    if (auto tag = tagged_event(event); tag && tag->covered) claim += " tag";
    if (is_separator(event)) claim += " separator";
    claims.push_back(std::move(claim));
  }
  return claims;
}

ExtendRecord record_of(const EventLog& log) {
  ExtendRecord record{.boot_id = "0123456789abcdef"};
  record.startup_locality = log.startup_locality();
  for (const Event& event : log.events()) {
    if (!event.measured()) continue;
    Extend extend{.n = record.extends.size(), .pcr = static_cast<uint8_t>(event.pcr)};
    for (const DigestView& digest : event.digests()) {
      extend.digests.push_back({digest.alg, Bytes(digest.bytes.begin(), digest.bytes.end())});
    }
    record.extends.push_back(std::move(extend));
  }
  record.total = record.extends.size();
  return record;
}

// What a TPM sees besides: the marks of a drill before the firmware, a reset by the guest.
void add_unlogged(ExtendRecord& record, bool marks, bool reset) {
  std::vector<Extend>& extends = record.extends;
  if (reset) {
    extends.insert(extends.begin() + static_cast<ptrdiff_t>(extends.size() / 2),
                   {.kind = PcrChange::kReset, .pcr = 16});
  }
  for (std::string_view mark : {"holdfast incarnation of some bytes", "holdfast drill"}) {
    if (!marks) break;
    Extend extend{.pcr = 6};
    for (const PcrDigest& seen : extends.front().digests) {
      HashValue value = hash(seen.alg, as_bytes(mark));
      extend.digests.push_back({seen.alg, Bytes(value.bytes().begin(), value.bytes().end())});
    }
    extends.insert(extends.begin(), std::move(extend));
  }
  for (size_t n = 0; n < extends.size(); ++n) extends[n].n = n;
  record.total = extends.size();
}

std::unique_ptr<Truth> truth(std::string name, Bytes bytes, bool marks = false,
                             bool reset = false) {
  auto parsed = EventLog::parse(bytes);
  EXPECT_TRUE(parsed.ok()) << name << ": " << parsed.error().describe();
  auto made = std::make_unique<Truth>(
      Truth{std::move(name), std::move(bytes), std::move(*parsed), {}, {}, {}});
  EXPECT_TRUE(unproven_events(made->log).empty());
  made->record = record_of(made->log);
  add_unlogged(made->record, marks, reset);
  for (HashAlg alg : made->log.banks()) made->banks.push_back(*replay(made->log, alg));
  for (const PcrBank& bank : made->banks) {
    for (uint32_t pcr = 0; pcr < kPcrCount; ++pcr) {
      made->pcrs.push_back({bank.alg(), pcr, bank.value(pcr)});
    }
  }
  EXPECT_FALSE(find_difference(made->log, made->pcrs).has_value());
  EXPECT_FALSE(find_difference(made->log, made->record).has_value());
  return made;
}

// Logs as firmware and loaders write them, and a choice of real ones.
const std::vector<std::unique_ptr<Truth>>& truths() {
  static const auto made = [] {
    std::vector<std::unique_ptr<Truth>> all;
    all.push_back(truth("debian", debian_like_log({kSha1, kSha256}).bytes()));
    all.push_back(truth("uki", uki_like_log({kSha256}).bytes()));
    all.push_back(truth("windows", windows_like_log({kSha256, kSha384}).bytes()));
    all.push_back(truth("SHA-1 only", debian_like_log({}).bytes()));
    all.push_back(truth("a drill", debian_like_log({kSha256, kSha384}).bytes(), true));
    all.push_back(truth("a reset of PCR 16", uki_like_log({kSha256}).bytes(), false, true));
    LogWriter locality({kSha256, kSha512});
    locality.startup_locality(3).separator(0).action(4, "Returning from EFI Application");
    all.push_back(truth("startup locality", locality.bytes()));
    for (const char* name : {"holdfast-direct-kernel", "holdfast-uki", "holdfast-two-banks"}) {
      auto path = std::filesystem::path(HOLDFAST_EVENT_LOGS) / (std::string(name) + ".bin");
      std::ifstream file(path, std::ios::binary);
      EXPECT_TRUE(file.good()) << path;
      std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
      ByteSpan bytes = as_bytes(text);
      all.push_back(truth(name, Bytes(bytes.begin(), bytes.end())));
    }
    return all;
  }();
  return made;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}
  size_t below(size_t end) { return random_() % end; }
  std::byte other_than(std::byte byte) {
    return static_cast<std::byte>(std::to_integer<size_t>(byte) + 1 + below(255));
  }
  const Truth& any_truth() { return *truths()[below(truths().size())]; }
  const Event& any_measured(const Truth& truth) {
    for (;;) {
      const Event& event = truth.log.events()[below(truth.log.events().size())];
      if (event.measured()) return event;
    }
  }
  const Event& any_event(const Truth& truth) {
    return truth.log.events()[1 + below(truth.log.events().size() - 1)];
  }

 private:
  std::minstd_rand random_;
};

size_t offset_in(const Truth& truth, ByteSpan part) {
  return static_cast<size_t>(part.data() - truth.log.bytes().data());
}
size_t end_of(const Truth& truth, const Event& event) {
  return offset_in(truth, event.data) + event.data.size();
}

enum class Known { kRecord, kPcrs };

struct Judgement {
  bool rejected = false;
  std::optional<size_t> event;  // as named
  bool exact = false;
  std::string reason;
  std::vector<std::string> claims;
};

std::optional<size_t> number_in(const std::string& cause) {
  size_t at = cause.find("event ");
  if (at == std::string::npos) return std::nullopt;
  return static_cast<size_t>(std::stoul(cause.substr(at + 6)));
}

Judgement judge(const Truth& truth, const Bytes& bytes, Known known) {
  auto log = EventLog::parse(bytes);
  if (!log.ok()) return {true, number_in(log.error().cause), true, log.error().cause, {}};
  auto differs = [](const LogDifference& found) {
    return Judgement{true, found.event, found.exact, found.reason, {}};
  };
  // The record names the first event that is wrong; PCR values know less than the data.
  if (known == Known::kRecord) {
    if (auto found = find_difference(*log, truth.record)) return differs(*found);
  }
  auto values = find_difference(*log, truth.pcrs);
  std::vector<UnprovenEvent> unproven = unproven_events(*log);
  if (values && (values->event || unproven.empty())) return differs(*values);
  if (!unproven.empty()) {
    return {values.has_value(), unproven[0].event, true, unproven[0].reason, claims_of(*log)};
  }
  return {.claims = claims_of(*log)};
}

void expect_named(const Truth& truth, const Bytes& bytes, size_t event, const char* what) {
  Judgement judged = judge(truth, bytes, Known::kRecord);
  ASSERT_TRUE(judged.rejected) << what << " of event " << event << " in " << truth.name;
  ASSERT_TRUE(judged.event == event && judged.exact)
      << what << " of event " << event << " in " << truth.name << ": " << judged.reason;
}

TEST(EventLogMutation, a_changed_digest_names_its_event) {
  Mutator random(1);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);  // EV_NO_ACTION's extend nothing
    const DigestView& digest = event.digests()[random.below(event.digests().size())];
    Bytes bytes = truth.bytes;
    std::byte& byte = bytes[offset_in(truth, digest.bytes) + random.below(digest.bytes.size())];
    byte = random.other_than(byte);
    ASSERT_NO_FATAL_FAILURE(expect_named(truth, bytes, event.number, "a digest"));
    ASSERT_TRUE(judge(truth, bytes, Known::kPcrs).rejected) << truth.name << " " << event.number;
  }
}

TEST(EventLogMutation, a_changed_bank_names_its_event) {
  Mutator random(2);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    if (truth.log.format() == LogFormat::kSha1) continue;
    const Event& event = random.any_measured(truth);
    const DigestView& digest = event.digests()[random.below(event.digests().size())];
    Bytes bytes = truth.bytes;
    std::byte* id = &bytes[offset_in(truth, digest.bytes) - 2];
    auto old = load_le<uint16_t>(id);
    auto other = random.below(2) == 0 ? static_cast<uint16_t>(kHashAlgs[random.below(4)])
                                      : static_cast<uint16_t>(random.below(0x10000));
    if (other == old) continue;
    store_le(id, other);
    ASSERT_NO_FATAL_FAILURE(expect_named(truth, bytes, event.number, "a bank"));
  }
}

TEST(EventLogMutation, a_changed_header_is_refused_or_changes_no_claim) {
  Mutator random(3);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    if (truth.log.format() == LogFormat::kSha1) continue;
    Bytes bytes = truth.bytes;
    std::byte& byte = bytes[random.below(end_of(truth, truth.log.events()[0]))];
    byte = random.other_than(byte);
    Judgement judged = judge(truth, bytes, Known::kPcrs);
    if (judged.rejected) {
      bool no_bank = judged.reason.starts_with("the event log has no ");
      ASSERT_TRUE(judged.event.has_value() || no_bank) << judged.reason;
    } else {
      ASSERT_EQ(judged.claims, claims_of(truth.log));
    }
  }
}

TEST(EventLogMutation, a_changed_pcr_index_names_its_event) {
  Mutator random(4);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);
    auto pcr = static_cast<uint32_t>(random.below(random.below(8) == 0 ? 1u << 31 : kPcrCount));
    if (pcr == event.pcr) continue;
    Bytes bytes = truth.bytes;
    store_le(&bytes[event.byte_offset], pcr);
    ASSERT_NO_FATAL_FAILURE(expect_named(truth, bytes, event.number, "the PCR"));
    ASSERT_TRUE(judge(truth, bytes, Known::kPcrs).rejected);
  }
}

TEST(EventLogMutation, another_order_names_the_first_event_that_moved) {
  Mutator random(5);
  int within_a_pcr = 0;
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event* first = &random.any_measured(truth);
    const Event* second = &random.any_measured(truth);
    if (first->number > second->number) std::swap(first, second);
    auto view = [&](size_t from, size_t to) {
      return ByteSpan(truth.bytes).subspan(from, to - from);
    };
    ByteSpan a = view(first->byte_offset, end_of(truth, *first));
    ByteSpan b = view(second->byte_offset, end_of(truth, *second));
    if (first == second || equal(a, b)) continue;
    Bytes bytes;
    for (ByteSpan part :
         {view(0, first->byte_offset), b, view(end_of(truth, *first), second->byte_offset), a,
          view(end_of(truth, *second), truth.bytes.size())}) {
      bytes.insert(bytes.end(), part.begin(), part.end());
    }
    // The TPM cannot tell a boot variable of four zeros from a separator; no one can.
    bool same_extend =
        first->pcr == second->pcr && equal(first->digests()[0].bytes, second->digests()[0].bytes);
    if (same_extend) continue;
    ASSERT_NO_FATAL_FAILURE(expect_named(truth, bytes, first->number, "the place"));
    // Without the record only the order within a PCR is proven, and no claim hangs on more.
    if (first->pcr != second->pcr) continue;
    ++within_a_pcr;
    ASSERT_TRUE(judge(truth, bytes, Known::kPcrs).rejected);
  }
  EXPECT_GT(within_a_pcr, kMutations / 50);
}

TEST(EventLogMutation, events_left_out_or_repeated_are_named) {
  Mutator random(6);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);
    auto from = truth.bytes.begin() + static_cast<ptrdiff_t>(event.byte_offset);
    auto to = truth.bytes.begin() + static_cast<ptrdiff_t>(end_of(truth, event));
    bool repeat = random.below(2) == 0;
    Bytes bytes(truth.bytes.begin(), repeat ? to : from);
    bytes.insert(bytes.end(), repeat ? from : to, truth.bytes.end());
    Judgement judged = judge(truth, bytes, Known::kRecord);
    ASSERT_TRUE(judged.rejected) << truth.name << " " << event.number;
    bool last = event.number + 1 == truth.log.events().size();
    if (!repeat && last) {
      // Firmware's farewell may be missing at the end; the value of PCR 5 tells it all the same.
      bool farewell = action_text(event).value_or("").starts_with("Exit Boot Services");
      ASSERT_NE(judged.reason.find(farewell ? "PCR 5" : "the log ends before extend"),
                std::string::npos)
          << judged.reason;
    } else {
      // Neighbours that are the same cannot be told apart; what follows them is named.
      ASSERT_GE(judged.event.value(), event.number) << judged.reason;
      ASSERT_LE(judged.event.value(), event.number + 2) << judged.reason;
    }
    Judgement by_value = judge(truth, bytes, Known::kPcrs);
    ASSERT_TRUE(by_value.rejected);
    if (repeat) ASSERT_TRUE(by_value.exact) << by_value.reason;
  }
}

TEST(EventLogMutation, changed_counts_and_sizes_are_refused_with_an_event) {
  Mutator random(7);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);
    Bytes bytes = truth.bytes;
    bool count = truth.log.format() == LogFormat::kCryptoAgile && random.below(2) == 0;
    std::byte* at =
        count ? &bytes[event.byte_offset + 8] : &bytes[offset_in(truth, event.data) - 4];
    auto old = load_le<uint32_t>(at);
    uint32_t other = static_cast<uint32_t>(random.below(random.below(2) == 0 ? 64 : 1u << 30));
    if (other == old) continue;
    store_le(at, other);
    Judgement judged = judge(truth, bytes, Known::kPcrs);
    ASSERT_TRUE(judged.rejected) << truth.name << " " << event.number;
    ASSERT_GE(judged.event.value_or(0), event.number) << judged.reason;
  }
}

// The event is told as not proven, and claims nothing but its digests; what others claim stays.
TEST(EventLogMutation, changed_data_that_a_digest_covers_names_its_event) {
  Mutator random(8);
  int done = 0;
  while (done < kMutations) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);
    if (!event.cover.covered() || event.cover.bytes.empty()) continue;
    if (cover_rule(event.type) == CoverRule::kIfPresent && event.type != EventType::kIpl &&
        event.type != EventType::kEventTag) {
      continue;  // their makers differ in what they hash: without cover they claim nothing
    }
    Bytes bytes = truth.bytes;
    size_t changes = 1 + random.below(3);
    for (size_t change = 0; change < changes; ++change) {
      size_t at = offset_in(truth, event.cover.bytes) + random.below(event.cover.bytes.size());
      bytes[at] = random.other_than(bytes[at]);
    }
    if (bytes == truth.bytes) continue;
    Judgement judged = judge(truth, bytes, Known::kPcrs);
    ASSERT_TRUE(!judged.rejected && judged.event == event.number)
        << truth.name << " event " << event.number << ": " << judged.reason;
    std::vector<std::string> claims = claims_of(truth.log);
    for (size_t i = 0, at = 0; i < truth.log.events().size(); ++i) {
      if (!truth.log.events()[i].measured()) continue;
      std::string& claim = claims[at++];
      if (i == event.number) claim.resize(claim.find(" proves ") + 8);
    }
    ASSERT_EQ(judged.claims, claims) << truth.name << " event " << event.number;
    ++done;
  }
}

// Lengths and identifiers that say where the covered part is, and what the log says about its own
// start, are structure: refused or without effect.
bool is_structure(const Event& event, size_t at) {
  bool variable = event.pcr <= 7 && at >= 16 && at < 32 && event.cover.form == CoverForm::kPart;
  bool locality = !event.measured() && event.pcr == 0;
  return variable || locality;
}

TEST(EventLogMutation, bytes_that_no_digest_covers_change_no_claim) {
  Mutator random(9);
  int done = 0;
  while (done < kMutations) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_event(truth);
    if (event.data.empty()) continue;
    size_t at = random.below(event.data.size());
    const std::byte* byte = event.data.data() + at;
    ByteSpan proven = event.cover.bytes;
    bool covered = byte >= proven.data() && byte < proven.data() + proven.size();
    if (covered || is_structure(event, at)) continue;
    Bytes bytes = truth.bytes;
    bytes[offset_in(truth, event.data) + at] = random.other_than(*byte);
    Judgement judged = judge(truth, bytes, Known::kPcrs);
    ASSERT_FALSE(judged.rejected) << truth.name << " event " << event.number << " byte " << at
                                  << ": " << judged.reason;
    ASSERT_EQ(judged.claims, claims_of(truth.log)) << truth.name << " event " << event.number;
    ++done;
  }
}

TEST(EventLogMutation, another_type_is_refused_or_changes_no_claim) {
  Mutator random(10);
  for (int i = 0; i < kMutations; ++i) {
    const Truth& truth = random.any_truth();
    const Event& event = random.any_measured(truth);
    auto type = static_cast<uint32_t>(random.below(0x14));
    if (random.below(2) == 0) type = 0x80000001 + static_cast<uint32_t>(random.below(0xe4));
    if (type == static_cast<uint32_t>(event.type)) continue;
    Bytes bytes = truth.bytes;
    store_le(&bytes[event.byte_offset + 4], type);
    Judgement judged = judge(truth, bytes, Known::kPcrs);
    if (judged.rejected) {
      bool named = judged.event.has_value() || judged.reason.starts_with("PCR ");
      ASSERT_TRUE(named) << judged.reason;
      continue;
    }
    ASSERT_EQ(judged.claims, claims_of(truth.log)) << truth.name << " event " << event.number;
  }
}

}  // namespace
}  // namespace hf::attestation

// Evidence that contradicts itself, is of another VM, another time or another role.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/appraisal/appraisal.h"
#include "attestation/log/event_cover.h"
#include "attestation/testing/test_boot.h"

namespace hf::attestation {
namespace {

using testing::HasSubstr;

const Policy kLinux = *built_in_policy("linux");

// Where an event begins in the log; one past the last: where the log ends.
size_t offset_of(const TestEvidence& evidence, size_t number) {
  const std::vector<Event>& events = evidence.log->events();
  return number < events.size() ? events[number].byte_offset : evidence.log_bytes.size();
}

void cut_log(TestEvidence& evidence, size_t from, size_t to) {
  auto at = [&](size_t number) {
    return evidence.log_bytes.begin() + static_cast<ptrdiff_t>(offset_of(evidence, number));
  };
  evidence.log_bytes.erase(at(from), at(to));
  evidence.parse_log();
}

size_t number_of(const TestEvidence& evidence, uint32_t pcr, size_t nth) {
  for (const Event& event : evidence.log->events()) {
    if (event.measured() && event.pcr == pcr && nth-- == 0) return event.number;
  }
  ADD_FAILURE() << "no such event";
  return 0;
}

class JudgedEvidence : public testing::Test {
 protected:
  JudgedEvidence() : baseline_(test_baseline(TestBoot{})), evidence_(TestBoot{}) {}

  Appraisal judged() const { return appraise(evidence_.input(kLinux, &baseline_)); }
  Appraisal judged_by_log() const { return appraise(evidence_.by_log(kLinux, &baseline_)); }

  static void expect_failure(const Appraisal& appraisal, std::string_view code) {
    EXPECT_EQ(appraisal.verdict, Verdict::kUnhealthy) << told(appraisal);
    const Reason* reason = find_reason(appraisal, code);
    ASSERT_NE(reason, nullptr) << told(appraisal);
    EXPECT_EQ(reason->severity, Severity::kFailure);
    EXPECT_FALSE(reason->mend.empty()) << code;
  }

  Baseline baseline_;
  TestEvidence evidence_;
};

TEST_F(JudgedEvidence, a_truncated_log_is_found_with_the_first_event_that_is_missing) {
  size_t last = evidence_.log->events().size();
  size_t from = number_of(evidence_, 9, 2);
  cut_log(evidence_, from, last);
  Appraisal appraisal = judged();
  expect_failure(appraisal, "event_log_truncated");
  EXPECT_EQ(find_reason(appraisal, "event_log_truncated")->event, from);
  EXPECT_EQ(find_reason(appraisal, "event_log_truncated")->pcr, 9);
  // The record still judges the boot by itself: nothing else is wrong with it.
  EXPECT_EQ(appraisal.reasons.size(), 1u) << told(appraisal);
  expect_failure(judged_by_log(), "event_log_contradicts_quote");
}

TEST_F(JudgedEvidence, a_log_read_before_firmware_said_farewell_is_whole) {
  size_t last = evidence_.log->events().size();
  cut_log(evidence_, last - 2, last);
  EXPECT_EQ(judged().verdict, Verdict::kHealthy) << told(judged());
  EXPECT_EQ(judged_by_log().verdict, Verdict::kHealthy) << told(judged_by_log());
}

TEST_F(JudgedEvidence, an_event_left_out_added_or_swapped_is_found_with_its_number) {
  const TestEvidence good(TestBoot{});
  size_t command = number_of(good, 8, 1);
  cut_log(evidence_, command, command + 1);
  Appraisal appraisal = judged();
  expect_failure(appraisal, "event_log_contradicts_record");
  EXPECT_EQ(find_reason(appraisal, "event_log_contradicts_record")->event, command);
  expect_failure(judged_by_log(), "event_log_contradicts_quote");

  // Doubled.
  evidence_.log_bytes = good.log_bytes;
  Bytes event(good.log_bytes.begin() + static_cast<ptrdiff_t>(offset_of(good, command)),
              good.log_bytes.begin() + static_cast<ptrdiff_t>(offset_of(good, command + 1)));
  evidence_.log_bytes.insert(
      evidence_.log_bytes.begin() + static_cast<ptrdiff_t>(offset_of(good, command)), event.begin(),
      event.end());
  evidence_.parse_log();
  appraisal = judged();
  expect_failure(appraisal, "event_log_contradicts_record");
  EXPECT_EQ(find_reason(appraisal, "event_log_contradicts_record")->event, command + 1);
  expect_failure(judged_by_log(), "event_log_contradicts_quote");
}

TEST_F(JudgedEvidence, an_edited_digest_is_found_with_its_event) {
  size_t number = number_of(evidence_, 4, 2);
  const Event& event = evidence_.log->events()[number];
  size_t at = static_cast<size_t>(event.digests()[0].bytes.data() - evidence_.log->bytes().data());
  evidence_.log_bytes[at] ^= std::byte{1};
  evidence_.parse_log();
  Appraisal appraisal = judged();
  expect_failure(appraisal, "event_log_contradicts_record");
  EXPECT_EQ(find_reason(appraisal, "event_log_contradicts_record")->event, number);
  expect_failure(judged_by_log(), "event_log_contradicts_quote");
  EXPECT_TRUE(judged_by_log().authorities.empty()) << "no claim from a log that was refused";
}

// Whatever byte of the log is changed: either the log is refused, or nothing that is said changes
// but that the event is not proven, which only data of PCR 0 to 6 leads to: nothing is read there.
TEST_F(JudgedEvidence, any_changed_byte_of_the_log_is_found_or_changes_nothing) {
  const Bytes good = evidence_.log_bytes;
  size_t unproven = 0;
  auto said = [&](Appraisal appraisal) {
    unproven += std::erase_if(appraisal.reasons, [](const Reason& reason) {
      return reason.code == "event_not_proven" && reason.severity == Severity::kNote;
    });
    return sys::to_text(to_json(appraisal));
  };
  const std::string before = said(judged());
  const std::string before_by_log = said(judged_by_log());
  size_t refused = 0;
  size_t unchanged = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    evidence_.log_bytes = good;
    evidence_.log_bytes[at] ^= std::byte{0x20};
    Result<EventLog> parsed = EventLog::parse(evidence_.log_bytes);
    if (!parsed.ok()) {
      ++refused;
      continue;
    }
    evidence_.log = std::move(*parsed);
    for (bool by_log : {false, true}) {
      Appraisal appraisal = by_log ? judged_by_log() : judged();
      if (appraisal.verdict == Verdict::kUnhealthy) {
        EXPECT_TRUE(appraisal.reasons[0].code.starts_with("event_log_")) << told(appraisal);
        ++refused;
      } else {
        EXPECT_EQ(said(appraisal), by_log ? before_by_log : before) << "byte " << at;
        ++unchanged;
      }
    }
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(unchanged, 100u);
  EXPECT_GT(unproven, 100u);
}

// Firmware that hashed something else than the log says: its words are not believed, the boot is
// judged by the digests. Keys and command lines are words that a verdict hangs on.
TEST_F(JudgedEvidence, an_event_that_nothing_proves_is_told_and_does_not_spoil_the_rest) {
  const Bytes good = evidence_.log_bytes;
  const Appraisal before = judged_by_log();
  auto with_edited = [&](const Event& event) {
    evidence_.log_bytes = good;
    auto at = static_cast<size_t>(event.cover.bytes.data() - event.data.data());
    evidence_
        .log_bytes[static_cast<size_t>(event.data.data() - evidence_.log->bytes().data()) + at] ^=
        std::byte{1};
  };
  size_t firmware = 0;
  size_t words = 0;
  const TestEvidence honest(TestBoot{});
  for (const Event& event : honest.log->events()) {
    if (!event.cover.covered() || event.cover.bytes.empty()) continue;
    if (cover_rule(event.type) != CoverRule::kRequired && event.type != EventType::kIpl) continue;
    evidence_.parse_log();
    with_edited(evidence_.log->events()[event.number]);
    evidence_.parse_log();
    Appraisal appraisal = judged_by_log();
    if (event.pcr < 7) {
      ++firmware;
      EXPECT_EQ(appraisal.verdict, before.verdict) << told(appraisal);
      const Reason* reason = find_reason(appraisal, "event_not_proven");
      ASSERT_NE(reason, nullptr) << event.number << told(appraisal);
      EXPECT_EQ(reason->event, event.number);
      EXPECT_THAT(reason->words, testing::Not(HasSubstr("altered")));
    } else {
      ++words;
      expect_failure(appraisal, "event_log_refused");
      EXPECT_EQ(find_reason(appraisal, "event_log_refused")->event, event.number);
    }
    evidence_.log_bytes = good;
  }
  EXPECT_GT(firmware, 3u);
  EXPECT_GT(words, 5u);
}

TEST_F(JudgedEvidence, a_quote_of_another_vtpm_is_found) {
  evidence_.quote.ak_name[5] ^= std::byte{1};
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.pinned_ak_name = Bytes(34, std::byte{0x11});
  Appraisal appraisal = appraise(input);
  expect_failure(appraisal, "key_not_pinned");
  EXPECT_EQ(appraisal.trust.get(TrustClaim::kInstanceIdentity), kIdentityNotRecognised);

  TestBoot other;
  other.parameters = "root=/dev/vda3 ro";
  TestEvidence of_other(other);
  evidence_.quote = of_other.quote;
  appraisal = judged();
  expect_failure(appraisal, "quote_contradicts_record");
}

// A record that the attester itself sends is as good as the quote that it agrees with, no better.
TEST_F(JudgedEvidence, a_record_from_elsewhere_counts_only_under_a_quote) {
  AppraisalInput input = evidence_.by_record(kLinux, &baseline_);
  input.context.record_from_keeper = false;
  Appraisal appraisal = appraise(input);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "nothing_vouches_for_record"));
  input.quote = &evidence_.quote;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));

  TestBoot bad;
  bad.parameters = "init=/bin/sh";
  TestEvidence other(bad);
  input.quote = &other.quote;  // the quote of what happened, with the record of a good boot
  expect_failure(appraise(input), "quote_contradicts_record");

  // A quote leaves order across registers open: nothing hides behind the start of the system.
  ExtendRecord late = other.record;
  auto first_of_grub = std::ranges::find(late.extends, 8, &Extend::pcr);
  std::rotate(first_of_grub, late.extends.end() - 2, late.extends.end());
  for (size_t n = 0; n < late.extends.size(); ++n) late.extends[n].n = n;
  late.exit_boot_services = static_cast<uint64_t>(first_of_grub - late.extends.begin());
  input.record = &late;
  expect_failure(appraise(input), "command_line_changed");
  for (PcrValues& bank : other.quote.banks) bank.values[8].reset();
  appraisal = appraise(input);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "pcr_not_quoted")) << told(appraisal);
}

TEST_F(JudgedEvidence, nothing_hides_behind_a_farewell_moved_forward_in_the_log) {
  TestBoot bad;
  bad.parameters = "root=/dev/vda2 ro init=/bin/sh";
  TestEvidence other(bad);
  const std::vector<Event>& events = other.log->events();
  size_t grub = number_of(other, 8, 0);
  Bytes moved(other.log_bytes.begin(),
              other.log_bytes.begin() + static_cast<ptrdiff_t>(events[grub].byte_offset));
  ByteSpan farewell = ByteSpan(other.log_bytes).subspan(events[events.size() - 2].byte_offset);
  moved.insert(moved.end(), farewell.begin(), farewell.end());
  moved.insert(moved.end(),
               other.log_bytes.begin() + static_cast<ptrdiff_t>(events[grub].byte_offset),
               other.log_bytes.end() - static_cast<ptrdiff_t>(farewell.size()));
  other.log_bytes = moved;
  other.parse_log();
  expect_failure(appraise(other.by_log(kLinux, &baseline_)), "command_line_changed");
}

// As above, where the operating system extends too: a quote does not say which of the two it was.
TEST_F(JudgedEvidence, nothing_hides_behind_a_farewell_where_the_system_extends_too) {
  for (uint8_t pcr : {uint8_t{11}, uint8_t{12}, uint8_t{13}}) {
    SCOPED_TRACE(pcr);
    TestBoot bad;
    bad.extension_pcr = pcr;
    TestEvidence other(bad);
    expect_failure(appraise(other.by_log(kLinux, &baseline_)), "pcr_changed");
    // The farewell moves before the extension, in the log and in the record.
    const std::vector<Event>& events = other.log->events();
    auto at = [&](size_t number) {
      return other.log_bytes.begin() + static_cast<ptrdiff_t>(events[number].byte_offset);
    };
    std::rotate(at(events.size() - 3), at(events.size() - 2), other.log_bytes.end());
    other.parse_log();
    std::vector<Extend>& extends = other.record.extends;
    std::rotate(extends.end() - 3, extends.end() - 2, extends.end());
    for (size_t n = 0; n < extends.size(); ++n) extends[n].n = n;
    other.record.exit_boot_services = extends.size() - 3;
    AppraisalInput by_record = other.by_record(kLinux, &baseline_);
    by_record.quote = &other.quote;
    by_record.context.record_from_keeper = false;
    for (const AppraisalInput& input : {other.by_log(kLinux, &baseline_), by_record}) {
      Appraisal appraisal = appraise(input);
      EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
      EXPECT_EQ(find_reason(appraisal, "order_not_vouched")->pcr, pcr);
    }
    by_record.context.record_from_keeper = true;  // it saw the order
    EXPECT_EQ(appraise(by_record).verdict, Verdict::kHealthy) << told(appraise(by_record));
  }
  // systemd's phases are known.
  TestBoot phases;
  phases.after = {"enter-initrd", "leave-initrd", "sysinit", "ready"};
  TestEvidence running(phases);
  AppraisalInput input = running.by_record(kLinux, &baseline_);
  input.quote = &running.quote;
  input.context.record_from_keeper = false;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
}

// Evidence made in the firmware's setup, with the rest of a good boot written behind it.
TEST_F(JudgedEvidence, an_attesters_record_counts_up_to_the_moment_of_the_quote) {
  ExtendRecord whole = evidence_.record;
  evidence_.record.extends.resize(10);
  evidence_.record.total = 10;
  evidence_.record.exit_boot_services.reset();
  evidence_.quote_record();
  evidence_.record = whole;
  AppraisalInput input = evidence_.by_record(kLinux, &baseline_);
  input.quote = &evidence_.quote;
  input.context.record_from_keeper = false;
  Appraisal appraisal = appraise(input);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "boot_not_finished")) << told(appraisal);
}

TEST_F(JudgedEvidence, values_of_a_register_come_from_the_quote_or_the_keeper) {
  Result<PcrBank> replayed = replay(evidence_.record, HashAlg::kSha256);
  Policy policy = kLinux;
  policy.pcrs[9] = {.rule = PcrRule::kValues};
  policy.pcrs[9].values = {{.bytes = {replayed->value(9).begin(), replayed->value(9).end()}}};
  AppraisalInput input = evidence_.input(policy, &baseline_);
  input.log = nullptr;
  input.context.record_from_keeper = false;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
  evidence_.quote.banks[0].values[9].reset();
  Appraisal appraisal = appraise(input);
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "pcr_value_unknown"));
  EXPECT_TRUE(has_reason(appraisal, "pcr_not_quoted"));
  input.context.record_from_keeper = true;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
}

TEST_F(JudgedEvidence, a_baseline_of_a_register_that_a_guest_resets_is_proven_by_no_quote) {
  Policy policy = kLinux;
  policy.pcrs[16].rule = PcrRule::kBaseline;
  evidence_.quote.banks[0].values[16] = Bytes(32);
  AppraisalInput by_record = evidence_.by_record(policy, &baseline_);
  by_record.quote = &evidence_.quote;
  EXPECT_EQ(appraise(by_record).verdict, Verdict::kHealthy) << told(appraise(by_record));
  by_record.context.record_from_keeper = false;
  for (const AppraisalInput& input : {by_record, evidence_.by_log(policy, &baseline_)}) {
    Appraisal appraisal = appraise(input);
    EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
    EXPECT_TRUE(has_reason(appraisal, "pcr_not_provable")) << told(appraisal);
  }
}

// A guest agent that answers with no log at all, or with one of SHA-1, does not blind the keeper.
TEST_F(JudgedEvidence, a_log_without_the_bank_is_left_aside) {
  TestBoot bad;
  bad.parameters = "root=/dev/vda2 ro init=/bin/sh";
  TestEvidence other(bad);
  other.log_bytes = Bytes(32);
  other.parse_log();
  Appraisal appraisal = appraise(other.input(kLinux, &baseline_));
  expect_failure(appraisal, "command_line_changed");
  EXPECT_TRUE(has_reason(appraisal, "event_log_without_bank")) << told(appraisal);

  evidence_.log_bytes = other.log_bytes;
  evidence_.parse_log();
  EXPECT_EQ(judged().verdict, Verdict::kHealthy) << told(judged());
  EXPECT_EQ(judged_by_log().verdict, Verdict::kUnknown) << told(judged_by_log());
  EXPECT_TRUE(has_reason(judged_by_log(), "no_common_bank"));
  Policy strict = kLinux;
  strict.event_log = Need::kRequired;
  appraisal = appraise(evidence_.input(strict, &baseline_));
  EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
  EXPECT_TRUE(has_reason(appraisal, "event_log_without_bank"));
}

TEST_F(JudgedEvidence, a_log_that_contradicts_the_quote_says_nothing_even_among_other_failures) {
  size_t number = number_of(evidence_, 4, 2);
  const Event& event = evidence_.log->events()[number];
  size_t at = static_cast<size_t>(event.digests()[0].bytes.data() - evidence_.log->bytes().data());
  evidence_.log_bytes[at] ^= std::byte{1};
  evidence_.parse_log();
  AppraisalInput input = evidence_.by_log(kLinux, &baseline_);
  input.context.epoch = Epoch(1);
  input.context.expected_epoch = Epoch(2);
  Appraisal appraisal = appraise(input);
  EXPECT_TRUE(has_reason(appraisal, "event_log_contradicts_quote"));
  EXPECT_TRUE(appraisal.authorities.empty());
}

TEST_F(JudgedEvidence, a_replayed_or_refused_quote_is_told_as_such) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.quote = nullptr;
  input.quote_error = Error{.code = ErrorCode::kWrongKey,
                            .cause = "the quote answers another nonce: it is an old one"};
  expect_failure(appraise(input), "nonce_mismatch");
  input.quote_error->cause = "the quote's signature is not by the attestation key";
  Appraisal appraisal = appraise(input);
  expect_failure(appraisal, "quote_refused");
  EXPECT_EQ(appraisal.trust.get(TrustClaim::kInstanceIdentity), kTrustCryptographyFailed);
}

TEST_F(JudgedEvidence,
       a_quote_that_the_tpm_did_not_give_leaves_a_right_boot_unknown_and_a_wrong_one_wrong) {
  for (ErrorCode code : {ErrorCode::kUnavailable, ErrorCode::kTimeout}) {
    for (std::string_view need : {"required", "optional"}) {
      Policy policy =
          *parse_policy(R"({"version":1,"name":"x","extends":"linux","evidence":{"quote":")" +
                        std::string(need) + "\"}}");
      AppraisalInput input = evidence_.input(kLinux, &baseline_);
      input.policy = &policy;
      input.quote = nullptr;
      input.quote_error = Error{.code = code, .cause = "the vTPM is busy with the guest's keys"};
      const bool has_mend = code == ErrorCode::kUnavailable;
      if (has_mend) input.quote_error->mend = "take the password off";
      EXPECT_EQ(appraise(input).verdict, Verdict::kUnknown) << told(appraise(input));
      Appraisal appraisal = appraise(input);
      ASSERT_TRUE(has_reason(appraisal, "quote_unavailable"));
      const std::string& mend = find_reason(appraisal, "quote_unavailable")->mend;
      EXPECT_EQ(mend == "take the password off", has_mend) << mend;
      input.context.epoch = Epoch(1);
      input.context.expected_epoch = Epoch(2);
      EXPECT_EQ(appraise(input).verdict, Verdict::kUnhealthy);
    }
  }
}

TEST_F(JudgedEvidence, a_key_that_nobody_enrolled_is_not_trusted) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.pinned_ak_name.reset();
  EXPECT_EQ(appraise(input).verdict, Verdict::kUnknown);
  EXPECT_TRUE(has_reason(appraise(input), "key_not_enrolled"));
  Policy certified = *parse_policy(R"({"version":1,"name":"x","extends":"linux",
      "evidence":{"attestation_key":"certified"}})");
  input.policy = &certified;
  EXPECT_TRUE(has_reason(appraise(input), "key_not_certified"));
  input.context.ak_certified = true;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
  input.context.ek_certified = false;
  expect_failure(appraise(input), "endorsement_key_not_certified");
}

TEST_F(JudgedEvidence, a_later_quote_agrees_with_a_record_that_has_grown) {
  TestBoot later;
  later.after = {"sysinit", "ready"};
  TestEvidence grown(later);
  evidence_.record = grown.record;
  EXPECT_EQ(judged().verdict, Verdict::kHealthy) << told(judged());
}

TEST_F(JudgedEvidence, a_drill_does_not_pass_as_production) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.role = VmRole::kDrill;
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << "a drill may be healthy as a drill";
  input.context.presented_as = VmRole::kProduction;
  Appraisal appraisal = appraise(input);
  expect_failure(appraisal, "role_mismatch");
  EXPECT_THAT(told(appraisal), HasSubstr("a drill of this VM is presented as production"));

  // Even if whoever asks is lied to about the role: the vTPM carries a mark.
  TestBoot drill;
  drill.marks = {"holdfast drill", "holdfast incarnation of some bytes"};
  TestEvidence marked(drill);
  for (bool log : {true, false}) {
    input = log ? marked.input(kLinux, &baseline_) : marked.by_record(kLinux, &baseline_);
    expect_failure(appraise(input), "role_marked");
    input.context.role = VmRole::kDrill;
    appraisal = appraise(input);
    EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  }
}

TEST_F(JudgedEvidence, a_quote_without_the_marked_register_does_not_say_whose_role_it_is) {
  TestBoot drill;
  drill.marks = {"holdfast drill", "holdfast incarnation of some bytes"};
  TestEvidence marked(drill);
  marked.quote.banks[0].values[6].reset();
  AppraisalInput by_record = marked.by_record(kLinux, &baseline_);
  by_record.quote = &marked.quote;
  by_record.context.record_from_keeper = false;
  for (const AppraisalInput& input : {by_record, marked.by_log(kLinux, &baseline_)}) {
    Appraisal appraisal = appraise(input);
    EXPECT_EQ(appraisal.verdict, Verdict::kUnknown) << told(appraisal);
    EXPECT_TRUE(has_reason(appraisal, "pcr_not_quoted")) << told(appraisal);
  }
}

TEST_F(JudgedEvidence, a_marked_drill_is_judged_as_one_by_log_and_quote) {
  IncarnationId incarnation;
  incarnation.bytes[3] = std::byte{0x5a};
  TestBoot drill;
  drill.marks = {"holdfast drill", "holdfast incarnation"};
  drill.marks[1] += as_text(incarnation.span());
  TestEvidence marked(drill);
  AppraisalInput by_record = marked.by_record(kLinux, &baseline_);
  for (AppraisalInput input : {by_record, marked.by_log(kLinux, &baseline_)}) {
    input.context.incarnation = incarnation;
    expect_failure(appraise(input), "role_marked");
    input.context.role = VmRole::kDrill;
    EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
    input.context.incarnation.bytes[3] = std::byte{0x5b};
    EXPECT_EQ(appraise(input).verdict, Verdict::kUnhealthy) << told(appraise(input));
  }
  by_record.context.role = VmRole::kDrill;
  by_record.context.incarnation.bytes[0] = std::byte{1};
  expect_failure(appraise(by_record), "incarnation_mismatch");
}

TEST_F(JudgedEvidence, an_older_epoch_or_another_incarnation_is_found) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.epoch = Epoch(4);
  input.context.expected_epoch = Epoch(5);
  expect_failure(appraise(input), "epoch_mismatch");
  EXPECT_THAT(told(appraise(input)), HasSubstr("it was failed over since"));
  input.context.expected_epoch = Epoch(4);
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy);
  input.context.expected_incarnation = IncarnationId{};
  input.context.incarnation.bytes[0] = std::byte{1};
  expect_failure(appraise(input), "incarnation_mismatch");
}

TEST_F(JudgedEvidence, state_that_was_rolled_back_is_found) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.sequence = Sequence(100);
  input.context.freshness.durable = Sequence(100);
  input.context.freshness.last_seen = TpmCounters{.reset_count = 7, .restart_count = 0};
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
  input.context.sequence = Sequence(99);
  expect_failure(appraise(input), "state_rolled_back");
  EXPECT_THAT(find_reason(appraise(input), "state_rolled_back")->mend,
              testing::Not(HasSubstr("baseline accept")))
      << "accepting a boot does not move the vault's position";
  EXPECT_EQ(freshness_words(input.context, appraise(input)), "older");
  input.context.freshness.declared = "recovery point of Monday, change 4711";
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << told(appraise(input));
  EXPECT_TRUE(has_reason(appraise(input), "declared_state_rolled_back"));
  EXPECT_EQ(freshness_words(input.context, appraise(input)), "older-declared");

  input.context.freshness = {.durable = Sequence(90), .on_lineage = false};
  expect_failure(appraise(input), "state_forked");
}

TEST_F(JudgedEvidence, a_vtpm_that_went_back_is_found_by_its_counters) {
  AppraisalInput input = evidence_.input(kLinux, &baseline_);
  input.context.freshness.last_seen = TpmCounters{.reset_count = 8, .restart_count = 0};
  expect_failure(appraise(input), "tpm_went_back");
  // TPM2_Clear does the same, so whoever ran it is told what to say.
  EXPECT_NE(appraise(input).reasons.front().mend.find("tpm2_clear"), std::string::npos);
  EXPECT_NE(appraise(input).reasons.front().mend.find("baseline accept"), std::string::npos);
  input.context.freshness.last_seen = TpmCounters{.reset_count = 7, .restart_count = 2};
  expect_failure(appraise(input), "tpm_went_back");
  input.context.freshness.last_seen = TpmCounters{.reset_count = 6, .restart_count = 9};
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy);
  // The TPM adds a constant, so the count may pass its end.
  input.context.freshness.last_seen = TpmCounters{.reset_count = 0xfffffff0};
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy);
  // A copy made before the last boot counts up to where that boot was.
  input.context.freshness.last_seen = TpmCounters{.reset_count = 7, .restart_count = 0};
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy) << "the same boot asked again";
  input.context.freshness.another_boot = true;
  expect_failure(appraise(input), "tpm_went_back");
  input.context.freshness.last_seen = TpmCounters{.reset_count = 6};
  EXPECT_EQ(appraise(input).verdict, Verdict::kHealthy);
  Appraisal appraisal = appraise(input);
  EXPECT_EQ(appraisal.counters, (TpmCounters{.clock = 5000, .reset_count = 7}));
}

TEST_F(JudgedEvidence, keys_changed_since_the_boot_are_told_before_they_count) {
  TestBoot later;
  later.db.push_back("New CA");
  evidence_.variables = later.variables();
  Appraisal appraisal = judged();
  EXPECT_EQ(appraisal.verdict, Verdict::kHealthy) << told(appraisal);
  ASSERT_TRUE(has_reason(appraisal, "keys_changed_since_boot"));
  EXPECT_THAT(find_reason(appraisal, "keys_changed_since_boot")->words, HasSubstr("\"New CA\""));
}

}  // namespace
}  // namespace hf::attestation

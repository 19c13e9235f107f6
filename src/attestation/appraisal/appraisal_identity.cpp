// Whose evidence is this, and is it of the newest state? Quote, attestation key, role, epoch,
// counters.
#include <fmt/format.h>

#include "attestation/appraisal/appraisal_inner.h"
#include "attestation/words/quoted.h"

namespace hf::attestation {
namespace {

void judge_key(const AppraisalInput& input, Judge& judge) {
  const AppraisalContext& context = input.context;
  const KeyNeed need = input.policy->attestation_key;
  if (context.pinned_ak_name && input.quote->ak_name != *context.pinned_ak_name) {
    judge
        .fail(TrustClaim::kInstanceIdentity, kIdentityNotRecognised, "key_not_pinned",
              fmt::format("the quote is by another attestation key ({}) than the one enrolled for "
                          "this VM ({}): it comes from another vTPM",
                          short_hex(input.quote->ak_name), short_hex(*context.pinned_ak_name)))
        .mend = "find out where the evidence came from; if the vTPM was made anew, enrol its key";
    return;
  }
  if (context.pinned_ak_name) {
    judge.affirm(TrustClaim::kInstanceIdentity, kIdentityRecognised);
    return;
  }
  if (context.ak_certified && need != KeyNeed::kPinned) {
    judge.affirm(TrustClaim::kInstanceIdentity, kIdentityRecognised);
    return;
  }
  if (need == KeyNeed::kAny) return;
  judge
      .unknown(TrustClaim::kInstanceIdentity,
               need == KeyNeed::kPinned ? "key_not_enrolled" : "key_not_certified",
               need == KeyNeed::kPinned
                   ? "no attestation key is enrolled for this VM, so nothing says whose quote it is"
                   : "the attestation key's certificate is missing or not by a CA that is trusted")
      .mend = "start the VM once at its home site: its key is enrolled then";
}

void judge_endorsement(const AppraisalInput& input, Judge& judge) {
  if (!input.context.ek_certified) return;
  if (*input.context.ek_certified) {
    judge.affirm(TrustClaim::kHardware, kHardwareGenuine);
    return;
  }
  if (input.policy->attestation_key == KeyNeed::kAny) {
    judge.note("endorsement_key_not_certified",
               "the TPM's endorsement key has no certificate by a CA that is trusted");
    return;
  }
  judge
      .fail(
          TrustClaim::kHardware, kHardwareNotRecognised, "endorsement_key_not_certified",
          "the TPM's endorsement key has no certificate by a CA that is trusted: this need not be "
          "a vTPM of this site")
      .mend = "import the CA of the site that made the vTPM, or refuse the evidence";
}

void judge_role(const AppraisalContext& context, Judge& judge) {
  if (context.presented_as && *context.presented_as != context.role) {
    judge
        .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "role_mismatch",
              fmt::format("a {} of this VM is presented as {}", to_string(context.role),
                          to_string(*context.presented_as)))
        .mend = "ask the production VM itself";
  }
  if (context.expected_epoch && *context.expected_epoch != context.epoch) {
    bool old = context.epoch < *context.expected_epoch;
    judge
        .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "epoch_mismatch",
              fmt::format("the VM runs in epoch {}, expected {}{}", context.epoch.value,
                          context.expected_epoch->value,
                          old ? ": it was failed over since, and this copy must not run" : ""))
        .mend = "holdfast vm show VM, at each of its sites, says which one runs it";
  }
  if (context.expected_incarnation && *context.expected_incarnation != context.incarnation) {
    judge
        .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, "incarnation_mismatch",
              fmt::format("the VM runs as incarnation {}, expected {}",
                          short_hex(context.incarnation.span()),
                          short_hex(context.expected_incarnation->span())))
        .mend = "holdfast vm show VM, at each of its sites, says which one runs it";
  }
}

// From one count to the other. A TPM adds a constant of the key's to both counts (part 2, 10.11.1),
// so that they may pass their end; their difference stays true.
int32_t steps(uint32_t from, uint32_t to) { return static_cast<int32_t>(to - from); }

}  // namespace

void judge_identity(const AppraisalInput& input, Judge& judge) {
  judge_role(input.context, judge);
  if (input.quote_error && (input.quote_error->code == ErrorCode::kUnavailable ||
                            input.quote_error->code == ErrorCode::kTimeout)) {
    // A guest can see to that, so nothing may be Healthy by it.
    judge
        .unknown(TrustClaim::kInstanceIdentity, "quote_unavailable",
                 fmt::format("the vTPM gave no quote: {}", input.quote_error->cause))
        .mend =
        !input.quote_error->mend.empty()
            ? input.quote_error->mend
            : "find out what holds the TPM in the guest: a boot loader that leaves keys loaded, a "
              "TPM2_Shutdown, a hierarchy that is switched off; then holdfast attest check VM";
    return;
  }
  if (input.quote_error) {
    bool nonce = input.quote_error->cause.find("nonce") != std::string::npos;
    judge
        .fail(TrustClaim::kInstanceIdentity, kTrustCryptographyFailed,
              nonce ? "nonce_mismatch" : "quote_refused",
              fmt::format("the quote is refused: {}", input.quote_error->cause))
        .mend = "ask for new evidence with a nonce of your own";
    return;
  }
  if (input.quote != nullptr) {
    judge_key(input, judge);
    judge_endorsement(input, judge);
    return;
  }
  if (input.policy->quote == Need::kRequired) {
    judge.unknown(TrustClaim::kInstanceIdentity, "quote_missing",
                  "the policy requires a quote, and there is none");
  } else if (input.record != nullptr && input.context.record_from_keeper) {
    // The keeper holds this VM's key and vTPM; that it speaks for the VM needs no signature here.
    judge.affirm(TrustClaim::kInstanceIdentity, kIdentityRecognised);
  }
}

void judge_freshness(const AppraisalInput& input, Judge& judge) {
  const AppraisalContext& context = input.context;
  const FreshnessFacts& facts = context.freshness;
  auto older = [&](std::string code, std::string words, std::string_view mend) {
    if (!facts.declared.empty()) {
      judge.note("declared_" + code, words + "; this was declared: " + quoted(facts.declared));
      return;
    }
    judge
        .fail(TrustClaim::kInstanceIdentity, kIdentityUntrustworthy, std::move(code),
              std::move(words))
        .mend = mend;
  };
  // Accepting a boot takes the vTPM's counts as they are; the vault's position stays what it is.
  constexpr std::string_view kStateMend =
      "find who put an older state in its place, and take the VM over from its replica: holdfast "
      "failover unplanned VM";
  // TPM2_Clear sets both counts to 0, and the clock too: what it leaves cannot be told from a state
  // of the TPM's first days. Only who ran it knows.
  constexpr std::string_view kClearedOrPutBack =
      "if the guest cleared its TPM (tpm2_clear), or an older state was put back on purpose, say "
      "so: holdfast attest baseline accept VM; if not, find who did, and take the VM over from its "
      "replica";
  if (facts.durable && context.sequence < *facts.durable) {
    older("state_rolled_back",
          fmt::format("the VM's state is at position {}, but position {} was durable before: an "
                      "older state was put in its place",
                      context.sequence.value, facts.durable->value),
          kStateMend);
  } else if (!facts.on_lineage) {
    older("state_forked",
          "the VM's state does not descend from the newest durable position that the vault knows",
          kStateMend);
  }
  if (!facts.last_seen || input.quote == nullptr) return;
  const TpmCounters& last = *facts.last_seen;
  const ClockInfo& clock = input.quote->clock;
  int32_t resets = steps(last.reset_count, clock.reset_count);
  int32_t restarts = steps(last.restart_count, clock.restart_count);
  if (resets < 0 || (resets == 0 && restarts < 0)) {
    older("tpm_went_back",
          fmt::format("the vTPM counts {} {} fewer than were seen before: an older state of it was "
                      "put in its place, or it was cleared",
                      resets < 0 ? -int64_t{resets} : -int64_t{restarts},
                      resets < 0 ? "resets" : "restarts"),
          kClearedOrPutBack);
  } else if (facts.another_boot && resets == 0 && clock.restart_count <= last.restart_count) {
    older("tpm_went_back",
          fmt::format("the vTPM counts {} resets, as many as at an earlier boot: an older state of "
                      "it was put in its place, or it was cleared",
                      clock.reset_count),
          kClearedOrPutBack);
  }
}

}  // namespace hf::attestation

// Raw TPM 2.0 commands and responses (TCG TPM 2.0 Library, part 2 and 3; all big-endian): the few
// that manufacture, orderly shutdown and tests need. Bounded on both sides.
#pragma once

#include "base/bytes.h"
#include "base/result.h"

namespace hf::vtpm {

inline constexpr size_t kTpmBufferMax = 4096;  // libtpms' TPM_BUFFER_MAX
inline constexpr size_t kTpmHeaderSize = 10;   // tag u16, size u32, code u32

inline constexpr uint16_t kTagNoSessions = 0x8001;
inline constexpr uint16_t kTagSessions = 0x8002;

inline constexpr uint32_t kCcEvictControl = 0x120;
inline constexpr uint32_t kCcNvUndefineSpace = 0x122;
inline constexpr uint32_t kCcClockSet = 0x128;
inline constexpr uint32_t kCcNvDefineSpace = 0x12A;
inline constexpr uint32_t kCcPcrAllocate = 0x12B;
inline constexpr uint32_t kCcClockRateAdjust = 0x130;
inline constexpr uint32_t kCcCreatePrimary = 0x131;
inline constexpr uint32_t kCcNvGlobalWriteLock = 0x132;
inline constexpr uint32_t kCcNvIncrement = 0x134;
inline constexpr uint32_t kCcNvSetBits = 0x135;
inline constexpr uint32_t kCcNvExtend = 0x136;
inline constexpr uint32_t kCcNvWrite = 0x137;
inline constexpr uint32_t kCcNvWriteLock = 0x138;
inline constexpr uint32_t kCcDictionaryAttackLockReset = 0x139;
inline constexpr uint32_t kCcDictionaryAttackParameters = 0x13A;
inline constexpr uint32_t kCcStartup = 0x144;
inline constexpr uint32_t kCcShutdown = 0x145;
inline constexpr uint32_t kCcNvRead = 0x14E;
inline constexpr uint32_t kCcCreate = 0x153;
inline constexpr uint32_t kCcLoad = 0x157;
inline constexpr uint32_t kCcUnseal = 0x15E;
inline constexpr uint32_t kCcFlushContext = 0x165;
inline constexpr uint32_t kCcReadPublic = 0x173;
inline constexpr uint32_t kCcGetCapability = 0x17A;
inline constexpr uint32_t kCcPcrRead = 0x17E;
inline constexpr uint32_t kCcReadClock = 0x181;
inline constexpr uint32_t kCcPcrExtend = 0x182;
inline constexpr uint32_t kCcPcrEvent = 0x13C;
inline constexpr uint32_t kCcPcrReset = 0x13D;
inline constexpr uint32_t kCcActivateCredential = 0x147;
inline constexpr uint32_t kCcPolicySecret = 0x151;
inline constexpr uint32_t kCcQuote = 0x158;
inline constexpr uint32_t kCcNvReadPublic = 0x169;
inline constexpr uint32_t kCcStartAuthSession = 0x176;
inline constexpr uint32_t kCcEventSequenceComplete = 0x185;
inline constexpr uint32_t kCcGetCommandAuditDigest = 0x133;
inline constexpr uint32_t kCcCertify = 0x148;
inline constexpr uint32_t kCcCertifyCreation = 0x14A;
inline constexpr uint32_t kCcGetTime = 0x14C;
inline constexpr uint32_t kCcGetSessionAuditDigest = 0x14D;
inline constexpr uint32_t kCcPolicyCounterTimer = 0x16D;
inline constexpr uint32_t kCcNvCertify = 0x184;
inline constexpr uint32_t kCcHierarchyControl = 0x121;
inline constexpr uint32_t kCcSetCommandCodeAuditStatus = 0x140;
inline constexpr uint32_t kCcIncrementalSelfTest = 0x142;
inline constexpr uint32_t kCcSelfTest = 0x143;
inline constexpr uint32_t kCcContextLoad = 0x161;
inline constexpr uint32_t kCcContextSave = 0x162;
inline constexpr uint32_t kCcGetRandom = 0x17B;
inline constexpr uint32_t kCcGetTestResult = 0x17C;
inline constexpr uint32_t kCcHash = 0x17D;
inline constexpr uint32_t kCcTestParms = 0x18A;
inline constexpr uint32_t kCcEcEphemeral = 0x18E;

inline constexpr uint32_t kRcSuccess = 0;
inline constexpr uint32_t kRcInitialize = 0x100;
inline constexpr uint32_t kRcFailure = 0x101;
inline constexpr uint32_t kRcCommandSize = 0x142;
inline constexpr uint32_t kRcValueOfParameter1 = 0x1C4;

// Passing: sent again a moment later, the command may succeed (part 2, "TPM_RC").
inline constexpr uint32_t kRcObjectMemory = 0x902;
inline constexpr uint32_t kRcSessionMemory = 0x903;
inline constexpr uint32_t kRcMemory = 0x904;
inline constexpr uint32_t kRcObjectHandles = 0x906;
inline constexpr uint32_t kRcYielded = 0x908;
inline constexpr uint32_t kRcCanceled = 0x909;
inline constexpr uint32_t kRcTesting = 0x90A;
inline constexpr uint32_t kRcNvRate = 0x920;
inline constexpr uint32_t kRcRetry = 0x922;

inline constexpr uint32_t kHandleOwner = 0x40000001;
inline constexpr uint32_t kHandleNull = 0x40000007;
inline constexpr uint32_t kHandleLockout = 0x4000000A;
inline constexpr uint32_t kHandlePassword = 0x40000009;  // TPM_RS_PW
inline constexpr uint32_t kHandleEndorsement = 0x4000000B;
inline constexpr uint32_t kHandlePlatform = 0x4000000C;

inline constexpr uint16_t kAlgRsa = 0x0001;
inline constexpr uint16_t kAlgSha1 = 0x0004;
inline constexpr uint16_t kAlgAes = 0x0006;
inline constexpr uint16_t kAlgKeyedHash = 0x0008;
inline constexpr uint16_t kAlgSha256 = 0x000B;
inline constexpr uint16_t kAlgSha384 = 0x000C;
inline constexpr uint16_t kAlgSha512 = 0x000D;
inline constexpr uint16_t kAlgNull = 0x0010;
inline constexpr uint16_t kAlgRsassa = 0x0014;
inline constexpr uint16_t kAlgEcc = 0x0023;
inline constexpr uint16_t kAlgCfb = 0x0043;
inline constexpr uint16_t kCurveP384 = 0x0004;

// TPM_ALG_ID, big-endian fields appended one by one; asserts the total stays within kTpmBufferMax.
class CommandBuilder {
 public:
  CommandBuilder(uint16_t tag, uint32_t code);
  CommandBuilder& u8(uint8_t value);
  CommandBuilder& u16(uint16_t value);
  CommandBuilder& u32(uint32_t value);
  CommandBuilder& raw(ByteSpan bytes);
  CommandBuilder& sized(ByteSpan bytes);                  // TPM2B: u16 length, bytes
  CommandBuilder& password(ByteSpan authorization = {});  // authorization area with one password
  Bytes finish();                                         // fills in the size; the builder is spent

 private:
  Bytes bytes_;
};

// Reads fields in order; every read past the end is kCorrupt.
class ResponseReader {
 public:
  explicit ResponseReader(ByteSpan bytes) : rest_(bytes) {}
  Result<uint8_t> u8();
  Result<uint16_t> u16();
  Result<uint32_t> u32();
  Result<ByteSpan> raw(size_t size);
  Result<ByteSpan> sized();
  ByteSpan rest() const { return rest_; }

 private:
  ByteSpan rest_;
};

struct ResponseHeader {
  uint16_t tag;
  uint32_t size;
  uint32_t code;  // TPM_RC
};
// kCorrupt unless `response` is exactly as long as its header says.
Result<ResponseHeader> parse_response_header(ByteSpan response);
// The bytes after the header; a TPM_RC other than success becomes an error that names `doing`.
Result<ByteSpan> expect_success(ByteSpan response, std::string_view doing);

// The command code of a raw command, 0 if it is too short to have one.
uint32_t command_code(ByteSpan command);

enum class StartupType : uint16_t { kClear = 0, kState = 1 };
Bytes startup_command(StartupType type);
Bytes shutdown_command(StartupType type);
// A response without parameters.
Bytes status_response(uint32_t code);

}  // namespace hf::vtpm

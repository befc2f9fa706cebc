//! Every limit of a tenant, as plain data.

use innkeeper_sandbox::InstanceLimits;
use serde::{Deserialize, Serialize};

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:expr;)*) => {
        /// What a tenant may use. Each has a default, which the host's configuration may change for all tenants and
        /// an administrator for one; a model's manifest may only lower it for that model.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        /// Limits that are set; the others stay as they are.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitOverrides {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<u64>,
            )*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Name, value and meaning of each, in the order of the documentation.
            pub fn rows(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name, concat!($($doc, " ",)+).trim()),)*]
            }

            /// These limits with the ones that are set in `overrides` put in their place.
            pub fn overridden(&self, overrides: &LimitOverrides) -> Limits {
                Limits { $($name: overrides.$name.unwrap_or(self.$name),)* }
            }

            /// These limits, lowered where `overrides` sets a smaller value and never raised.
            pub fn lowered(&self, overrides: &LimitOverrides) -> Limits {
                Limits { $($name: overrides.$name.map_or(self.$name, |v| v.min(self.$name)),)* }
            }
        }
    };
}

impl LimitOverrides {
    /// The first limit that is set and says nothing about one model; such a limit is the tenant's alone.
    pub fn not_a_models(&self) -> Option<&'static str> {
        let tenants = [
            ("upload_bytes_max", self.upload_bytes_max),
            ("stored_bytes_max", self.stored_bytes_max),
            ("versions_max", self.versions_max),
            ("models_max", self.models_max),
            ("warm_instances_total_max", self.warm_instances_total_max),
            ("asset_memory_bytes_max", self.asset_memory_bytes_max),
            ("sequences_max", self.sequences_max),
            ("cache_bytes_max", self.cache_bytes_max),
            ("datasets_max", self.datasets_max),
            ("jobs_max", self.jobs_max),
            ("jobs_running_max", self.jobs_running_max),
            ("compute_weight", self.compute_weight),
        ];
        tenants.into_iter().find(|(_, value)| value.is_some()).map(|(name, _)| name)
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limits! {
    /// How much of the processors a tenant's guests get beside those of others, while there is not enough for all: with
    /// twice the weight, twice as much.
    compute_weight = 100;
    /// Milliseconds that one prediction may take, from admission to answer.
    deadline_ms_max = 30_000;
    /// Milliseconds that a model's `load` and `describe` may take.
    load_ms_max = 10_000;
    /// Bytes of linear memory of one instance.
    guest_memory_bytes_max = 256 * MIB;
    /// Table elements of one instance.
    table_elements_max = 20_000;
    /// Tensor handles that one instance may hold.
    handles_max = 10_000;
    /// Bytes behind the tensor handles of all of a tenant's instances.
    tensor_bytes_max = 512 * MIB;
    /// Bytes of a tenant's assets that are in memory, each file once however many versions have it, with what the host
    /// derives from them for its kernels.
    asset_memory_bytes_max = 8 * GIB;
    /// Bytes that a guest may hand to the host in one call.
    hostcall_bytes_max = 64 * MIB;
    /// Bytes of all outputs of one prediction.
    output_bytes_max = 64 * MIB;
    /// Bytes of log kept for one model; older lines make room for newer ones.
    log_bytes_max = 256 * KIB;
    /// Bytes of log that one prediction may write; what is over is dropped and counted.
    log_bytes_per_request_max = 16 * KIB;
    /// Predictions of a tenant that run at once.
    requests_in_flight_max = 64;
    /// Predictions of a tenant that wait for their turn.
    queue_requests_max = 512;
    /// Milliseconds that a prediction may wait for its turn.
    queue_ms_max = 10_000;
    /// Predictions that a tenant may start in a second.
    requests_per_second_max = 1_000_000;
    /// Bytes of a request's body, after decompression.
    body_bytes_max = 64 * MIB;
    /// Bytes of a bundle, or of one blob.
    upload_bytes_max = 2 * GIB;
    /// Bytes of blobs, uploads, manifests and facts that a tenant stores.
    stored_bytes_max = 16 * GIB;
    /// Versions of one model.
    versions_max = 100;
    /// Models of a tenant.
    models_max = 20_000;
    /// Warm instances that a tenant keeps per model.
    warm_instances_max = 16;
    /// Warm instances that a tenant keeps over all models.
    warm_instances_total_max = 128;
    /// Sequences that a tenant has open over all models; each keeps an instance.
    sequences_max = 16;
    /// Bytes of answers that are kept to be given again, over all models that a tenant calls; older ones make room.
    cache_bytes_max = 16 * MIB;
    /// Datasets of a tenant.
    datasets_max = 1_000;
    /// Jobs of a tenant that wait, run or rest.
    jobs_max = 100;
    /// Jobs of a tenant that run at once.
    jobs_running_max = 2;
    /// Milliseconds that a job may run, over all its turns.
    job_ms_max = 24 * 60 * 60 * 1_000;
    /// Milliseconds that a trainer may take for one call, such as a step.
    step_ms_max = 60_000;
    /// Bytes of what a trainer saves, and of the files that it makes.
    checkpoint_bytes_max = 2 * GIB;
}

impl Limits {
    /// The part that the sandbox enforces in one instance.
    pub fn instance(&self) -> InstanceLimits {
        InstanceLimits {
            guest_memory_bytes_max: self.guest_memory_bytes_max,
            table_elements_max: self.table_elements_max,
            handles_max: self.handles_max,
            hostcall_bytes_max: self.hostcall_bytes_max,
            output_bytes_max: self.output_bytes_max,
            log_bytes_max: self.log_bytes_per_request_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_can_only_lower() {
        let limits = Limits { deadline_ms_max: 100, handles_max: 5, ..Limits::default() };
        let wish = LimitOverrides {
            deadline_ms_max: Some(200),
            handles_max: Some(2),
            ..LimitOverrides::default()
        };
        assert_eq!(limits.lowered(&wish).deadline_ms_max, 100);
        assert_eq!(limits.lowered(&wish).handles_max, 2);
        assert_eq!(limits.overridden(&wish).deadline_ms_max, 200);
    }

    #[test]
    fn every_limit_is_listed_with_its_meaning() {
        for (name, _, meaning) in Limits::default().rows() {
            assert!(!meaning.is_empty(), "{name}");
        }
    }
}
